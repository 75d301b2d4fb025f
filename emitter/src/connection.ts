import { setTimeout as sleep } from "node:timers/promises";
import { AgentwireError, limits } from "@agentwire/shared";
import type { Publisher, ScriptRunner } from "@agentwire/shared/redis";
import { Redis } from "ioredis";

const DISCONNECT_MS = 100;
const retryStrategy = (attempt: number) => Math.min(attempt * 50, 500);
/** Whatever the client is like that it was made from. */
const SUBSCRIBER = {
  lazyConnect: false,
  enableOfflineQueue: true,
  maxRetriesPerRequest: null,
  // It may hear nothing for hours.
  socketTimeout: undefined,
  disconnectTimeout: DISCONNECT_MS,
  retryStrategy,
};

/** A client of the caller's. One that only runs scripts is enough for statuses; every ioredis client has all of it. */
export type RedisClient = ScriptRunner & Partial<Publisher> & { duplicate?(overrides?: object): unknown };

/** What listens to a channel. */
export interface Listener {
  heard(text: string): void;
  /** The subscription stands; again each time that Redis was away, and then something may have been missed. */
  hears(): void;
  /** Redis refuses the subscription, or the connection is lost again: then it is tried again. */
  failed(error: unknown): void;
}

export interface Subscription {
  close(): Promise<void>;
}

/** What the emitter publishes through. */
export interface Connection {
  redis: RedisClient;
  /** Why there is no connection just now, where we know it. */
  failure(): Error | undefined;
  /** On a connection of its own, which comes back by itself; the caller closes it. */
  listen(channel: string, listener: Listener): Subscription;
  close(): Promise<void>;
}

/** A client that belongs to the caller: never closed here, and its errors are the caller's to hear. */
export function borrowConnection(redis: RedisClient): Connection {
  return {
    redis,
    failure: () => undefined,
    listen(channel, listener) {
      if (!redis.duplicate) return { close: async () => {} };
      return subscribe(redis.duplicate(SUBSCRIBER) as Redis, channel, listener);
    },
    close: async () => {},
  };
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
    retryStrategy,
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
    listen: (channel, listener) => subscribe(new Redis(url, SUBSCRIBER), channel, listener),
    close: () => disconnect(redis),
  };
}

function subscribe(redis: Redis, channel: string, { heard, hears, failed }: Listener): Subscription {
  // Says that Redis is away: the client tries again by itself, and `ready` comes when it is back.
  redis.on("error", () => {});
  redis.on("message", (_, text: string) => heard(text));
  redis.on("ready", () => redis.subscribe(channel).then(hears, failed));
  return { close: () => disconnect(redis) };
}

async function disconnect(redis: Redis): Promise<void> {
  if (redis.status === "end") return;
  const ended = new Promise<void>((resolve) => redis.once("end", resolve));
  redis.disconnect();
  // A client that was between two tries has nothing left to close, and says nothing.
  const enough = new AbortController();
  await Promise.race([ended, sleep(2 * DISCONNECT_MS, undefined, { signal: enough.signal })]);
  enough.abort();
}

function isRedisUrl(url: string): boolean {
  return url.startsWith("/") || (/^rediss?:\/\//.test(url) && URL.canParse(url));
}
