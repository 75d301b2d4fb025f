import { setTimeout as sleep } from "node:timers/promises";
import { AgentwireError, limits } from "@agentwire/shared";
import type { ScriptRunner } from "@agentwire/shared/redis";
import { Redis } from "ioredis";

const DISCONNECT_MS = 100;

/** What the emitter publishes through. */
export interface Connection {
  redis: ScriptRunner;
  /** Why there is no connection just now, where we know it. */
  failure(): Error | undefined;
  close(): Promise<void>;
}

/** A client that belongs to the caller: never closed here, and its errors are the caller's to hear. */
export function borrowConnection(redis: ScriptRunner): Connection {
  return { redis, failure: () => undefined, close: async () => {} };
}

/**
 * Our own client. Nothing queues up in it while Redis is away: a command fails at once and publish.ts repeats it, so
 * that a long absence costs no memory and no publish happens long after its caller was told that it failed.
 *
 * @throws AgentwireError `BAD_REQUEST` when `url` is not one of Redis
 */
export function openConnection(url: string): Connection {
  if (!isRedisUrl(url)) {
    throw new AgentwireError("BAD_REQUEST", "the Redis URL must begin with redis://, rediss:// or /");
  }
  const redis = new Redis(url, {
    enableOfflineQueue: false,
    maxRetriesPerRequest: 0,
    connectTimeout: limits.publishTimeoutMs,
    socketTimeout: limits.publishTimeoutMs,
    disconnectTimeout: DISCONNECT_MS,
    retryStrategy: (attempt) => Math.min(attempt * 50, 500),
  });
  let failure: Error | undefined;
  redis.on("error", (error: Error) => {
    failure = error;
  });
  redis.on("ready", () => {
    failure = undefined;
  });
  return {
    redis,
    failure: () => failure,
    async close() {
      if (redis.status === "end") return;
      const ended = new Promise<void>((resolve) => redis.once("end", resolve));
      redis.disconnect();
      // A client that was between two tries has nothing left to close, and says nothing.
      const enough = new AbortController();
      await Promise.race([ended, sleep(2 * DISCONNECT_MS, undefined, { signal: enough.signal })]);
      enough.abort();
    },
  };
}

function isRedisUrl(url: string): boolean {
  return url.startsWith("/") || (/^rediss?:\/\//.test(url) && URL.canParse(url));
}
