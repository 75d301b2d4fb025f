import { compareSequence, type Filterable, type SequenceId } from "@agentwire/shared";
import type { RedisKeys } from "@agentwire/shared/redis";
import type { Redis } from "ioredis";
import { fieldsOf } from "./entry.js";
import { replies } from "./pipeline.js";

/** One event that the user could see: what filtering needs, without the payload. */
export type Missed = Filterable & { id: SequenceId };

/** Some entries after a position, oldest first. */
export interface IndexPage {
  missed: Missed[];
  /** The last entry that was looked at. */
  last: SequenceId;
  more: boolean;
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
    const page = await this.redis.xrange(this.keys.replay(userId), `(${after}`, "+", "COUNT", count);
    const missed = page.flatMap(([id, flat]) => {
      const { a = "", p = "", s = "" } = fieldsOf(flat);
      const entry = { id, agent_id: a, project_id: p, new_status: s, event_type: "AGENT_STATUS_CHANGED" };
      return projects.has(p) ? [entry] : [];
    });
    return { missed, last: page.at(-1)?.[0] ?? after, more: page.length >= count };
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
