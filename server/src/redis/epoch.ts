import { randomUUID } from "node:crypto";
import { readFileSync } from "node:fs";
import type { RedisKeys } from "@agentwire/shared/redis";
import { runScript, script } from "@agentwire/shared/redis";
import type { Redis } from "ioredis";

// KEYS 1 epoch   ARGV 1 the name it has   2 the name it gets. Returns the name in force: the first node to ask wins.
const RENEW = script(`
if redis.call('GET', KEYS[1]) == ARGV[1] then
  redis.call('SET', KEYS[1], ARGV[2])
end
return redis.call('GET', KEYS[1])
`);

const RECOGNISE = script(
  readFileSync(new URL("../../src/redis/epoch-recognise.lua", import.meta.url), "utf8"),
);

/**
 * Gives the history another name where a failover has put another server in its place.
 * @returns whether it did
 */
export async function recogniseServer(redis: Redis, keys: RedisKeys): Promise<boolean> {
  return (await runScript(redis, RECOGNISE, [keys.epoch, keys.server], [randomUUID()])) === 1;
}

/** Names the history where it has no name yet. Returns the name in force. */
export async function ensureEpoch(redis: Redis, keys: RedisKeys): Promise<string> {
  const fresh = randomUUID();
  return (await redis.set(keys.epoch, fresh, "NX", "GET")) ?? fresh;
}

/** Gives the history another name, because events of it are lost. */
export async function renewEpoch(redis: Redis, keys: RedisKeys, former: string): Promise<string> {
  return (await runScript(redis, RENEW, [keys.epoch], [former, randomUUID()])) as string;
}
