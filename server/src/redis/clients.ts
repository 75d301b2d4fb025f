import {
  keepPulse,
  keepTogether,
  type RedisAddress,
  type RedisKeys,
  redisOpener,
  whenElsewhere,
} from "@agentwire/shared/redis";
import { Redis, type RedisOptions } from "ioredis";
import type { Logger } from "pino";

/**
 * All lead to one server: in a Cluster to the one that has our slot, behind Sentinels to the primary. Each reconnects by
 * itself, also when that is another one or says nothing any more.
 *
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
  /** Why `commands` fails: that it has no connection says less than why it has none. */
  reason(error: unknown): unknown;
  /** To be called when `commands` can write: where it was led to another server, the others follow. */
  writes(): void;
  close(): void;
}

const COMMAND_TIMEOUT_MS = 1000;
const RECONNECT_MAX_MS = 500;
const SILENT_MS = 1000;
/** How long a reader waits for entries: nothing else is answered meanwhile. */
export const READ_MS = 1000;

export function connectRedis(address: RedisAddress, keys: RedisKeys, logger: Logger): RedisClients {
  const shared = {
    retryStrategy: (attempt: number) => Math.min(RECONNECT_MAX_MS, 20 * 2 ** Math.min(attempt, 10)),
    connectTimeout: 2000,
    // Of a Redis that loads its data.
    maxLoadingRetryTime: RECONNECT_MAX_MS,
    // A reader that waits in XREAD does not end by itself when it is told to.
    disconnectTimeout: 100,
    maxRetriesPerRequest: null,
    // Replies in the shapes of RESP2, whatever the client's own default becomes.
    replyMapping: "legacy",
  } satisfies RedisOptions;
  const open = redisOpener<Redis, RedisOptions>(Redis, address, keys.epoch);
  const all: { redis: Redis; stopPulse: () => void }[] = [];
  const follow = (redis: Redis, silentMs = SILENT_MS): Redis => {
    // Without a listener ioredis prints each attempt; `close` says it once per lost connection.
    redis.on("error", (error: Error) => logger.debug({ err: error.message }, "redis connection error"));
    all.push({ redis, stopPulse: keepPulse(redis, keys.epoch, silentMs) });
    return redis;
  };

  const commands = follow(
    open({
      ...shared,
      commandTimeout: COMMAND_TIMEOUT_MS,
      enableOfflineQueue: false,
      autoResendUnfulfilledCommands: false,
      reconnectOnError: whenElsewhere((error) => {
        demoted = true;
        failure = error;
      }),
    }),
  );
  let demoted = false;
  let failure: Error | undefined;
  commands.on("error", (error: Error) => {
    failure = error;
  });
  commands.on("ready", () => {
    failure = undefined;
  });
  const stream = follow(open(shared));
  // The adapter duplicates this client for its reader and its subscriber and never gives those back.
  const duplicate = stream.duplicate.bind(stream);
  stream.duplicate = (options) => follow(duplicate(options), READ_MS + SILENT_MS);
  const bus = follow(open(shared));
  const notices = follow(open(shared));
  // It knows itself what it listens to.
  const live = follow(open({ ...shared, autoResubscribe: false }));

  // An address with several servers behind it may lead each line to another one, and rightly.
  if (address.kind !== "url") keepTogether(commands, () => all.map(({ redis }) => redis));

  return {
    commands,
    stream,
    bus,
    notices,
    live,
    reason: (error) => failure ?? (commands.status === "ready" ? error : new Error("Redis does not answer")),
    writes() {
      if (!demoted) return;
      demoted = false;
      for (const { redis } of all) if (redis !== commands) redis.disconnect(true);
    },
    close: () => {
      for (const { redis, stopPulse } of all) {
        stopPulse();
        redis.disconnect();
      }
    },
  };
}
