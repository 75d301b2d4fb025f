import {
  compareSequence,
  type Filterable,
  laterSequence,
  SEQUENCE_START,
  type SequenceId,
  sequenceTime,
} from "@agentwire/shared";
import type { RedisKeys } from "@agentwire/shared/redis";
import type { Redis } from "ioredis";
import { fieldsOf } from "./entry.js";
import type { Log } from "./log.js";
import { replies } from "./pipeline.js";

export type Loss = "window_exceeded" | "history_lost" | "trimmed";

/** One event that the user could see: what filtering needs, without the payload. */
export type Missed = Filterable & { id: SequenceId };

/** What a user could have seen after a position, oldest first, at most as many as one replay sends. */
export interface History {
  epoch: string;
  missed: Missed[];
  /** Everything up to here is in `missed`, if nothing is lost. */
  to: SequenceId;
  /** Why something may be missing. Absent only when it is proven that nothing is. */
  loss?: Loss;
}

export interface ReplayLimits {
  windowMs: number;
  maxMessages: number;
}

const PAGE = 500;
/** How many entries of the log are looked at for a user whose index begins too late. */
const SCAN_FACTOR = 20;

/** Answers "what did this user miss?" from the user's index into the log, and from the log where the index is short. */
export class Replay {
  constructor(
    private readonly redis: Redis,
    private readonly keys: RedisKeys,
    private readonly log: Log,
    private readonly limits: ReplayLimits,
  ) {}

  /**
   * @param epoch the history that `after` belongs to; unknown for clients that do not say
   * @throws what Redis answers while it is away
   */
  async missedBy(
    userId: string,
    projects: ReadonlySet<string>,
    after: SequenceId,
    epoch?: string,
  ): Promise<History> {
    const { head, epoch: named, now } = await this.log.head();
    const current = named ?? "";
    const oldest = now - this.limits.windowMs;
    const old = sequenceTime(after) < oldest;
    const sameHistory = epoch === undefined || epoch === current;
    let broken = sameHistory ? await this.#broken(after, head, old) : ("history_lost" as const);

    const from = broken === "history_lost" ? SEQUENCE_START : after;
    // The index forgets what is older than the window; the log tells whether that was for this user.
    const found =
      !old && (await this.#indexCovers(userId, projects, from))
        ? await this.#fromIndex(userId, projects, from)
        : await this.#fromLog(projects, from);
    // What is that old may also have been trimmed while it was read.
    if (old) broken ??= await this.#broken(after, head, old);

    const missed = found.missed.filter(({ id }) => sequenceTime(id) >= oldest);
    const tooOld = missed.length < found.missed.length ? ("window_exceeded" as const) : undefined;
    const loss = broken ?? tooOld ?? found.loss;
    return { epoch: current, missed, to: laterSequence(head, found.last), ...(loss && { loss }) };
  }

  /**
   * Why the log no longer holds every event after this position; nothing when it does. Each entry names the one before
   * it: if the first one left follows an entry at or before the position, nothing between them is gone.
   */
  async #broken(after: SequenceId, head: SequenceId, old: boolean): Promise<Loss | undefined> {
    if (compareSequence(after, head) > 0) return "history_lost";
    const prev = await this.log.prevOfNext(after);
    if (prev === undefined) return after === head ? undefined : old ? "window_exceeded" : "trimmed";
    if (prev === SEQUENCE_START && after !== SEQUENCE_START) return "history_lost";
    if (compareSequence(prev, after) <= 0) return undefined;
    return old ? "window_exceeded" : "trimmed";
  }

  /** Whether the index holds an entry for every event of these projects after this position, but for trimming. */
  async #indexCovers(userId: string, projects: ReadonlySet<string>, after: SequenceId): Promise<boolean> {
    if (projects.size === 0) return true;
    const since = await this.redis.hmget(this.keys.audienceSince(userId), ...projects);
    return since.every((id) => id !== null && compareSequence(id, after) <= 0);
  }

  async #fromIndex(userId: string, projects: ReadonlySet<string>, after: SequenceId) {
    const index = this.keys.replay(userId);
    const missed: Missed[] = [];
    let last = after;
    for (;;) {
      const page = await this.redis.xrange(index, `(${last}`, "+", "COUNT", PAGE);
      for (const [id, flat] of page) {
        const { a = "", p = "", s = "" } = fieldsOf(flat);
        if (projects.has(p))
          missed.push({ id, agent_id: a, project_id: p, new_status: s, event_type: "AGENT_STATUS_CHANGED" });
        last = id;
      }
      if (page.length < PAGE) break;
    }
    // Trimming by count takes the oldest first and never below the limit: an older entry, or a short index, shows
    // that none went. Asked after reading, so that it holds for what was read.
    const about = this.redis.pipeline().xrevrange(index, after, "-", "COUNT", 1).xlen(index);
    const [atOrBefore, length] = (await replies(about)) as [unknown[], number];
    return this.#newest(missed, last, atOrBefore.length > 0 || length < this.limits.maxMessages);
  }

  async #fromLog(projects: ReadonlySet<string>, after: SequenceId) {
    const missed: Missed[] = [];
    let last = after;
    let looked = 0;
    for await (const page of this.log.newestFirst(after)) {
      for (const { id, envelope } of page) {
        last = laterSequence(last, id);
        const { agent_id, project_id, new_status } = envelope.payload;
        if (projects.has(project_id))
          missed.push({ id, agent_id, project_id, new_status, event_type: envelope.event_type });
      }
      looked += page.length;
      if (missed.length > this.limits.maxMessages || looked >= SCAN_FACTOR * this.limits.maxMessages) {
        return this.#newest(missed.reverse(), last, false);
      }
    }
    return this.#newest(missed.reverse(), last, true);
  }

  #newest(missed: Missed[], last: SequenceId, whole: boolean) {
    const kept = missed.slice(-this.limits.maxMessages);
    const loss = whole && kept.length === missed.length ? undefined : ("trimmed" as const);
    return { missed: kept, last, loss };
  }
}
