import {
  compareSequence,
  laterSequence,
  SEQUENCE_START,
  type SequenceId,
  sequenceTime,
} from "@agentwire/shared";
import type { LogEntry } from "./entry.js";
import type { Log } from "./log.js";
import type { IndexPage, Missed, ReplayIndex } from "./replay-index.js";
import type { Look } from "./replay-look.js";

export type Loss = "window_exceeded" | "history_lost" | "trimmed";

/** What a user could have seen after a position, oldest first, at most as many as one replay sends. */
export interface History {
  epoch: string;
  missed: Missed[];
  /** Everything up to here is in `missed`, if nothing is lost. */
  to: SequenceId;
  /** Why something may be missing. Absent only when it is proven that nothing is. */
  loss?: Loss;
  /** Where a history is lost: the position is one of the new history, too, and `missed` begins after it. */
  kept?: boolean;
}

export interface ReplayLimits {
  windowMs: number;
  maxMessages: number;
}

export const PAGE = 500;
/** How many entries of the log are looked at for a user whose index begins too late. */
const SCAN_FACTOR = 20;
/** How many of them for one stretch of a refill. */
const SCAN_AT_ONCE = 5000;

const visible = (entries: LogEntry[], projects: ReadonlySet<string>): Missed[] =>
  entries.flatMap(({ id, envelope: { event_type, payload } }) => {
    const { agent_id, project_id, new_status } = payload;
    return projects.has(project_id) ? [{ id, event_type, agent_id, project_id, new_status }] : [];
  });

/**
 * Why the log no longer holds every event after this position; nothing when it does. Each entry names the one before
 * it: if the first one left follows an entry at or before the position, nothing between them is gone.
 *
 * @param prev of the first one left; `undefined` when there is none
 */
function brokenAt(
  prev: SequenceId | undefined,
  after: SequenceId,
  head: SequenceId,
  old: boolean,
): Loss | undefined {
  if (compareSequence(after, head) > 0) return "history_lost";
  if (prev === undefined) return after === head ? undefined : old ? "window_exceeded" : "trimmed";
  if (prev === SEQUENCE_START && after !== SEQUENCE_START) return "history_lost";
  if (compareSequence(prev, after) <= 0) return undefined;
  return old ? "window_exceeded" : "trimmed";
}

/** Answers "what did this user miss?" from the user's index into the log, and from the log where the index is short. */
export class Replay {
  constructor(
    private readonly log: Log,
    private readonly index: ReplayIndex,
    private readonly lookBack: (
      userId: string,
      projects: ReadonlySet<string>,
      after: SequenceId,
    ) => Promise<Look>,
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
    const look = await this.lookBack(userId, projects, after);
    const { head, epoch: current, now } = look;
    const oldest = now - this.limits.windowMs;
    const old = sequenceTime(after) < oldest;
    const sameHistory = epoch === undefined || epoch === current;
    let broken = sameHistory ? brokenAt(look.prev, after, head, old) : ("history_lost" as const);
    // What a replica had when it took its primary's place is as it was: nobody needs that again.
    const kept = !sameHistory && look.kept;

    // The index forgets what is older than the window; the log tells whether that was for this user.
    const found =
      broken === "history_lost" && !kept
        ? await this.#fromStart(userId, projects, old)
        : !old && look.covered
          ? await this.#fromIndex(userId, projects, after, look)
          : await this.#fromLog(projects, after);
    // What is that old may also have been trimmed while it was read.
    if (old) broken ??= await this.#broken(after, head, old);

    const missed = found.missed.filter(({ id }) => sequenceTime(id) >= oldest);
    const tooOld = missed.length < found.missed.length ? ("window_exceeded" as const) : undefined;
    const loss = broken ?? tooOld ?? found.loss;
    const to = laterSequence(head, found.last);
    return { epoch: current, missed, to, ...(loss && { loss }), ...(kept && { kept }) };
  }

  /**
   * The next stretch after a position, for a connection that takes all of it at its own pace: the oldest first, about
   * `count` of them. With a `loss` it holds nothing: what is left is for {@link missedBy} to find.
   *
   * @throws what Redis answers while it is away
   */
  async missedNext(
    userId: string,
    projects: ReadonlySet<string>,
    after: SequenceId,
    epoch: string,
    count: number,
  ): Promise<History & { more: boolean }> {
    const { head, epoch: named, now } = await this.log.head();
    const current = named ?? "";
    const old = sequenceTime(after) < now - this.limits.windowMs;
    const lost = (loss: Loss) => ({ epoch: current, missed: [], to: after, more: false, loss });
    if (epoch !== current) return lost("history_lost");

    const indexed =
      !old && (await this.index.covers(userId, projects, after))
        ? await this.index.page(userId, projects, after, count)
        : undefined;
    const uncut = indexed && (await this.index.uncut(userId, after));
    const { missed, last, more } = uncut ? indexed : await this.#logPage(projects, after, count);
    // After reading: then nothing of it was trimmed before it was read.
    const broken = await this.#broken(after, head, old);
    if (broken) return lost(broken);
    return { epoch: current, missed, to: more ? last : laterSequence(head, last), more };
  }

  async #broken(after: SequenceId, head: SequenceId, old: boolean): Promise<Loss | undefined> {
    return brokenAt(await this.log.prevOfNext(after), after, head, old);
  }

  /** All that is left of the history that Redis has now, for a position in another one. */
  async #fromStart(userId: string, projects: ReadonlySet<string>, old: boolean) {
    const look = old ? undefined : await this.lookBack(userId, projects, SEQUENCE_START);
    return look?.covered
      ? this.#fromIndex(userId, projects, SEQUENCE_START, look)
      : this.#fromLog(projects, SEQUENCE_START);
  }

  async #fromIndex(userId: string, projects: ReadonlySet<string>, after: SequenceId, look: Look) {
    const { missed } = look.page;
    let { last, more } = look.page;
    if (!more) return this.#newest(missed, last, look.uncut);
    while (more) {
      const page = await this.index.page(userId, projects, last, PAGE);
      missed.push(...page.missed);
      ({ last, more } = page);
    }
    return this.#newest(missed, last, await this.index.uncut(userId, after));
  }

  async #fromLog(projects: ReadonlySet<string>, after: SequenceId) {
    const missed: Missed[] = [];
    let last = after;
    let looked = 0;
    for await (const page of this.log.newestFirst(after)) {
      for (const entry of page) last = laterSequence(last, entry.id);
      missed.push(...visible(page, projects));
      looked += page.length;
      if (missed.length > this.limits.maxMessages || looked >= SCAN_FACTOR * this.limits.maxMessages) {
        return this.#newest(missed.reverse(), last, false);
      }
    }
    return this.#newest(missed.reverse(), last, true);
  }

  /** The next stretch of the log: so many events that the user may see, or as much as is looked at in one go. */
  async #logPage(projects: ReadonlySet<string>, after: SequenceId, count: number): Promise<IndexPage> {
    const missed: Missed[] = [];
    let page = { last: after, more: true };
    for (let looked = 0; page.more && missed.length < count && looked < SCAN_AT_ONCE; looked += PAGE) {
      const next = await this.log.oldestFirst(page.last, PAGE);
      missed.push(...visible(next.entries, projects));
      page = next;
    }
    return { missed, ...page };
  }

  #newest(missed: Missed[], last: SequenceId, whole: boolean) {
    const kept = missed.slice(-this.limits.maxMessages);
    const loss = whole && kept.length === missed.length ? undefined : ("trimmed" as const);
    return { missed: kept, last, loss };
  }
}
