import type { RedisKeys } from "@agentwire/shared/redis";
import type { Redis } from "ioredis";

/** Tells append.lua how long to keep what: publishers know nothing of the nodes' settings. */
export async function writeSettings(
  redis: Redis,
  keys: RedisKeys,
  { windowMs, maxMessages }: { windowMs: number; maxMessages: number },
): Promise<void> {
  await redis.hset(keys.settings, { window_ms: windowMs, max_replay: maxMessages });
}
