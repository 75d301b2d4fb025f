import { readFileSync } from "node:fs";
import { AGENTS_NAMESPACE, compareSequence, type SequenceId } from "@agentwire/shared";
import { type RedisKeys, runScript, script } from "@agentwire/shared/redis";
import type { Redis } from "ioredis";
import { type IndexPage, indexPage } from "./replay-index.js";

const LOOK = script(readFileSync(new URL("../../src/redis/replay-look.lua", import.meta.url), "utf8"));

/** What stood in Redis at one instant about all that came after a position. */
export interface Look {
  head: SequenceId;
  epoch: string;
  /** The clock that ids are made with. */
  now: number;
  /** Of the first durable event after the position; `undefined` when there is none. */
  prev: SequenceId | undefined;
  /** Whether the log holds the event at the position. */
  kept: boolean;
  /** Whether the user's index holds an entry for every event of the projects after the position, but for trimming. */
  covered: boolean;
  /** The first page of the index after the position, and whether nothing after the position was trimmed. */
  page: IndexPage;
  uncut: boolean;
}

export interface LookOptions {
  redis: Redis;
  keys: RedisKeys;
  /** As many entries of the index. */
  count: number;
  /** How long the index gets. */
  maxMessages: number;
}

/** @throws what Redis answers while it is away */
export async function lookBack(
  { redis, keys, count, maxMessages }: LookOptions,
  userId: string,
  projects: ReadonlySet<string>,
  after: SequenceId,
): Promise<Look> {
  const names = [keys.head, keys.epoch, keys.events, keys.audienceSince(userId), keys.replay(userId)];
  const about = [after, count, AGENTS_NAMESPACE, ...projects];
  const [head, epoch, seconds, micros, prev, text, older, length, kept, ...since] = (await runScript(
    redis,
    LOOK,
    names,
    about,
  )) as [string, string, string, string, string, string, number, number, number, ...string[]];
  return {
    head,
    epoch,
    now: Number(seconds) * 1000 + Math.floor(Number(micros) / 1000),
    prev: prev === "" ? undefined : prev,
    kept: kept > 0,
    covered: since.every((id) => id !== "" && compareSequence(id, after) <= 0),
    page: indexPage(text, projects, after, count),
    uncut: older > 0 || length < maxMessages,
  };
}
