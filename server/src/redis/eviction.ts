import type { Redis } from "ioredis";
import type { Logger } from "pino";

/** Where ACLs or a provider do not let us ask. */
const FORBIDDEN = /^NOPERM|unknown command/i;

/**
 * Every `maxmemory-policy` but `noeviction` takes keys that have an end when memory is full, which most of ours have, and
 * says nothing. Where Redis tells its policy on neither of two ways that is logged, once.
 *
 * @returns asks Redis, and resolves to why it is none to work with, if so; rejects while it is away
 */
export function createEvictionCheck(redis: Redis, logger: Logger): () => Promise<string | undefined> {
  let isKnown = true;
  return async () => {
    const policy = await evictionPolicy(redis);
    if (policy === undefined) {
      if (isKnown) logger.warn("whether Redis evicts keys is not known: INFO and CONFIG are forbidden");
      isKnown = false;
      return undefined;
    }
    if (policy === "noeviction") return undefined;
    return `Redis evicts keys (maxmemory-policy ${policy}), and history with them: it must be noeviction`;
  };
}

async function evictionPolicy(redis: Redis): Promise<string | undefined> {
  const info = await unlessForbidden(redis.info("memory"));
  const told = /^maxmemory_policy:(\S+)/m.exec(info ?? "")?.[1];
  if (told) return told;
  const setting = (await unlessForbidden(redis.config("GET", "maxmemory-policy"))) as string[] | undefined;
  return setting?.[1];
}

async function unlessForbidden<T>(reply: Promise<T>): Promise<T | undefined> {
  try {
    return await reply;
  } catch (error) {
    if (error instanceof Error && FORBIDDEN.test(error.message)) return undefined;
    throw error;
  }
}
