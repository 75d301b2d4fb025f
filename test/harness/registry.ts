import type { RedisKeys } from "@agentwire/shared/redis";
import { expect } from "chai";
import type { Redis } from "ioredis";
import { until } from "./wait.js";

/** What Redis says about connections: ids, each where it stands. */
async function readRegistry(redis: Redis, keys: RedisKeys) {
  const found = await redis.keys(`${keys.connectionPrefix}*`);
  const users = found.filter((key) => key.startsWith(keys.userConnectionsPrefix));
  const records = found.filter((key) => !users.includes(key));
  const indexed = await Promise.all(users.map((key) => redis.zrange(key, "0", "-1")));
  const [seconds] = await redis.time();
  return {
    records: records.map((key) => key.slice(keys.connectionPrefix.length)).sort(),
    indexed: indexed.flat().sort(),
    leases: (await redis.zrangebyscore(keys.leases, Number(seconds) * 1000, "+inf")).sort(),
  };
}

/**
 * Waits until Redis says that exactly these connections are there: records, users' indexes and places.
 * @param more how many others there are, whose ids nobody was told
 */
export async function registryHas(
  { client, keys }: { client(): Redis; keys: RedisKeys },
  open: () => string[],
  more = 0,
): Promise<void> {
  const redis = client();
  let found: Awaited<ReturnType<typeof readRegistry>> | undefined;
  const wanted = () => {
    const told = open();
    const others = (found?.records ?? []).filter((id) => !told.includes(id));
    const ids = [...told, ...Array.from({ length: more }, (_, n) => others[n] ?? "another")].sort();
    return { records: ids, indexed: ids, leases: ids };
  };
  const isSo = async () => {
    found = await readRegistry(redis, keys);
    return JSON.stringify(found) === JSON.stringify(wanted());
  };
  try {
    await until("the registry is what is open", isSo, 40_000);
  } catch (error) {
    expect(found, (error as Error).message).to.deep.equal(wanted());
    throw error;
  }
}
