import { compareSequence, type SequenceId } from "@agentwire/shared";
import type { RedisKeys } from "@agentwire/shared/redis";
import type { Redis } from "ioredis";
import { Log } from "./log.js";

/** Among so many entries after a node's place there is an event, and not only what the adapter and the nodes say. */
const ENOUGH = 100;

/**
 * How far behind the log a node is: the age in seconds, by the clock of Redis, of the oldest event that it has not handled.
 * 0 when there is none.
 * @param handled the last event that it has handled
 */
export async function streamLag(redis: Redis, keys: RedisKeys, handled: SequenceId): Promise<number> {
  const log = new Log(redis, keys);
  const { head, now } = await log.head();
  if (compareSequence(head, handled) <= 0) return 0;
  const { entries } = await log.oldestFirst(handled, ENOUGH);
  const [ms] = (entries[0]?.id ?? head).split("-");
  return Math.max(0, now - Number(ms)) / 1000;
}
