import { readFileSync } from "node:fs";
import { compareSequence, type Filterable, type SequenceId } from "@agentwire/shared";
import { type RedisKeys, runScript, script } from "@agentwire/shared/redis";
import type { Redis } from "ioredis";
import { replies } from "./pipeline.js";

const PAGE = script(readFileSync(new URL("../../src/redis/replay-page.lua", import.meta.url), "utf8"));

/** One event that the user could see: what filtering needs, without the payload. */
export type Missed = Filterable & { id: SequenceId };

/** Some entries after a position, oldest first. */
export interface IndexPage {
  missed: Missed[];
  /** The last entry that was looked at. */
  last: SequenceId;
  more: boolean;
}

/** What replay-page.lua has read, of which the user may see these projects. */
export function indexPage(
  text: string,
  projects: ReadonlySet<string>,
  after: SequenceId,
  count: number,
): IndexPage {
  const lines = text === "" ? [] : text.split("\n");
  let last = after;
  const missed: Missed[] = [];
  for (const line of lines) {
    const [id = "", agent_id = "", project_id = "", new_status = ""] = line.split(" ");
    last = id;
    if (projects.has(project_id))
      missed.push({ id, agent_id, project_id, new_status, event_type: "AGENT_STATUS_CHANGED" });
  }
  return { missed, last, more: lines.length >= count };
}

/** Reads `ws:replay:agent_status:{user_id}`: what a user could see, as small entries that name their place in the log. */
export class ReplayIndex {
  constructor(
    private readonly redis: Redis,
    private readonly keys: RedisKeys,
    private readonly maxMessages: number,
  ) {}

  /** Whether it holds an entry for every event of these projects after this position, but for trimming. */
  async covers(userId: string, projects: ReadonlySet<string>, after: SequenceId): Promise<boolean> {
    if (projects.size === 0) return true;
    const since = await this.redis.hmget(this.keys.audienceSince(userId), ...projects);
    return since.every((id) => id !== null && compareSequence(id, after) <= 0);
  }

  async page(
    userId: string,
    projects: ReadonlySet<string>,
    after: SequenceId,
    count: number,
  ): Promise<IndexPage> {
    const text = (await runScript(this.redis, PAGE, [this.keys.replay(userId)], [after, count])) as string;
    return indexPage(text, projects, after, count);
  }

  /**
   * Whether nothing after this position was trimmed: trimming by count takes the oldest first and never below the
   * limit, so an older entry, or a short index, shows it. To be asked after reading: then it holds for what was read.
   */
  async uncut(userId: string, after: SequenceId): Promise<boolean> {
    const index = this.keys.replay(userId);
    const about = this.redis.pipeline().xrevrange(index, after, "-", "COUNT", 1).xlen(index);
    const [atOrBefore, length] = (await replies(about)) as [unknown[], number];
    return atOrBefore.length > 0 || length < this.maxMessages;
  }
}
