import { Redis, type RedisOptions } from "ioredis";
import type { Logger } from "pino";

/**
 * - `commands` answers within a second or fails: nothing waits behind a Redis that is away
 * - `stream` belongs to the streams adapter, whose loops must outlive any outage: its commands wait
 * - `bus`, `notices` and `live` are in subscriber mode
 */
export interface RedisClients {
  commands: Redis;
  stream: Redis;
  bus: Redis;
  notices: Redis;
  live: Redis;
  close(): void;
}

const COMMAND_TIMEOUT_MS = 1000;
const RECONNECT_MAX_MS = 500;

export function connectRedis(url: string, logger: Logger): RedisClients {
  const shared = {
    retryStrategy: (attempt: number) => Math.min(RECONNECT_MAX_MS, 20 * 2 ** Math.min(attempt, 10)),
    connectTimeout: 2000,
    // A reader that waits in XREAD does not end by itself when it is told to.
    disconnectTimeout: 100,
    maxRetriesPerRequest: null,
    // Replies in the shapes of RESP2, whatever the client's own default becomes.
    replyMapping: "legacy",
  } satisfies RedisOptions;
  const all: Redis[] = [];
  const follow = (redis: Redis): Redis => {
    // Without a listener ioredis prints each attempt; `close` says it once per lost connection.
    redis.on("error", (error: Error) => logger.debug({ err: error.message }, "redis connection error"));
    all.push(redis);
    return redis;
  };

  const commands = follow(
    new Redis(url, {
      ...shared,
      commandTimeout: COMMAND_TIMEOUT_MS,
      enableOfflineQueue: false,
      autoResendUnfulfilledCommands: false,
    }),
  );
  const stream = follow(new Redis(url, shared));
  // The adapter duplicates this client for its reader and its subscriber and never gives those back.
  const duplicate = stream.duplicate.bind(stream);
  stream.duplicate = (options) => follow(duplicate(options));
  const bus = follow(new Redis(url, shared));
  const notices = follow(new Redis(url, shared));
  const live = follow(new Redis(url, shared));

  return {
    commands,
    stream,
    bus,
    notices,
    live,
    close: () => {
      for (const redis of all) redis.disconnect();
    },
  };
}
