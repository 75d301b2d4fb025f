import { setTimeout as sleep } from "node:timers/promises";
import { AgentwireError, limits } from "@agentwire/shared";
import {
  keepPulse,
  keepTogether,
  type Publisher,
  type RedisAddress,
  redisOpener,
  type ScriptRunner,
  whenElsewhere,
} from "@agentwire/shared/redis";
import { Redis, type RedisOptions } from "ioredis";

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

/** What terminals need; every ioredis client has it. */
export interface TerminalClient {
  publish(channel: string, message: string | Buffer): Promise<unknown>;
  pttl(key: string): Promise<number>;
  multi(commands: unknown[][]): { exec(): Promise<[error: Error | null, result: unknown][] | null> };
}

/** A client of the caller's. One that only runs scripts is enough for statuses; every ioredis client has all of it. */
export type RedisClient = ScriptRunner &
  Partial<Publisher> &
  Partial<TerminalClient> & { duplicate?(overrides?: object): unknown };

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

/** What listens to channels that come and go, all on one connection; see {@link Listener}. */
export interface ChannelsListener {
  heard(channel: string, text: string): void;
  hears(channel: string): void;
  failed(error: unknown): void;
}

export interface ChannelsSubscription extends Subscription {
  add(channel: string): void;
  remove(channel: string): void;
}

/** What the emitter publishes through. */
export interface Connection {
  redis: RedisClient;
  /** Why there is no connection just now, where we know it. */
  failure(): Error | undefined;
  /** To be called when something was written: where that was on another server than before, listeners follow. */
  written(): void;
  /** On a connection of its own, which comes back by itself; the caller closes it. */
  listen(channel: string, listener: Listener): Subscription;
  /** The same for many channels; none in the beginning. */
  listenToMany(listener: ChannelsListener): ChannelsSubscription;
  close(): Promise<void>;
}

/**
 * A client that belongs to the caller: never closed here, and its errors are the caller's to hear.
 * @param key any key of ours
 */
export function borrowConnection(redis: RedisClient, key: string): Connection {
  return {
    redis,
    failure: () => undefined,
    written() {},
    listen(channel, listener) {
      if (!redis.duplicate) return { close: async () => {} };
      return subscribe(redis.duplicate(SUBSCRIBER) as Redis, key, channel, listener);
    },
    listenToMany(listener) {
      if (!redis.duplicate) return { add() {}, remove() {}, close: async () => {} };
      return subscribeToMany(redis.duplicate(SUBSCRIBER) as Redis, key, listener);
    },
    close: async () => {},
  };
}

/**
 * Our own client. Nothing queues up in it while Redis is away: a command fails at once and publish.ts repeats it, so
 * that a long absence costs no memory and no publish happens long after its caller was told that it failed.
 *
 * @param key any key of ours
 * @throws AgentwireError `BAD_REQUEST` when its URL is not one of Redis
 */
export function openConnection(address: RedisAddress, key: string): Connection {
  if (address.kind === "url" && !isRedisUrl(address.url)) {
    throw new AgentwireError("BAD_REQUEST", "the Redis URL must begin with redis://, rediss:// or /");
  }
  const open = redisOpener<Redis, RedisOptions>(Redis, address, key);
  let failure: Error | undefined;
  let demoted = false;
  const subscribers = new Set<Redis>();
  const subscriber = (): Redis => {
    const client = open(SUBSCRIBER);
    subscribers.add(client);
    client.on("end", () => subscribers.delete(client));
    return client;
  };
  const redis = open({
    enableOfflineQueue: false,
    maxRetriesPerRequest: 0,
    connectTimeout: limits.publishTimeoutMs,
    socketTimeout: limits.publishTimeoutMs,
    disconnectTimeout: DISCONNECT_MS,
    retryStrategy,
    reconnectOnError: whenElsewhere((error) => {
      demoted = true;
      failure = error;
    }),
  });
  if (address.kind !== "url") keepTogether(redis, () => subscribers);
  redis.on("error", (error: Error) => {
    failure = error;
  });
  redis.on("ready", () => {
    failure = undefined;
  });
  return {
    redis,
    failure: () => failure,
    written() {
      if (!demoted) return;
      demoted = false;
      for (const client of subscribers) client.disconnect(true);
    },
    listen: (channel, listener) => subscribe(subscriber(), key, channel, listener),
    listenToMany: (listener) => subscribeToMany(subscriber(), key, listener),
    close: () => disconnect(redis),
  };
}

function subscribe(
  redis: Redis,
  key: string,
  channel: string,
  { heard, hears, failed }: Listener,
): Subscription {
  const subscription = subscribeToMany(redis, key, { heard: (_, text) => heard(text), hears, failed });
  subscription.add(channel);
  return subscription;
}

function subscribeToMany(
  redis: Redis,
  key: string,
  { heard, hears, failed }: ChannelsListener,
): ChannelsSubscription {
  const stopPulse = keepPulse(redis, key, limits.publishTimeoutMs);
  const channels = new Set<string>();
  const subscribeTo = (channel: string) => redis.subscribe(channel).then(() => hears(channel), failed);
  // Says that Redis is away: the client tries again by itself, and `ready` comes when it is back.
  redis.on("error", () => {});
  redis.on("message", heard);
  redis.on("ready", () => channels.forEach(subscribeTo));
  return {
    add(channel) {
      channels.add(channel);
      if (redis.status === "ready") subscribeTo(channel);
    },
    remove(channel) {
      channels.delete(channel);
      // On a connection that is lost there is nothing left of it.
      if (redis.status === "ready") redis.unsubscribe(channel).catch(failed);
    },
    close() {
      stopPulse();
      return disconnect(redis);
    },
  };
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
