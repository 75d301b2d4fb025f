import { compareSequence, type Envelope, type PayloadOf, type SequenceId } from "@agentwire/shared";
import type { Viewer } from "./viewer.js";

/** One status change as it came. */
export interface Received {
  id: SequenceId;
  /** The last argument: says that everything before it was sent. */
  offset: SequenceId | undefined;
  /** `performance.now()` when it came. */
  at: number;
  urgent: boolean;
  /** Between REPLAY_START and REPLAY_END, and in its place in the log: one that overtakes carries no offset. */
  replayed: boolean;
}

/**
 * Keeps the books of one viewer: what came live, what was announced as dropped, what came in replays. To be opened
 * before it is connected.
 */
export class Ledger {
  readonly changes: Received[] = [];
  readonly drops: PayloadOf<"MESSAGES_DROPPED">[] = [];
  readonly replays: PayloadOf<"REPLAY_END">[] = [];
  /** What in a replay was not as REPLAY_END counted it. */
  readonly miscounts: string[] = [];
  #replaying: { count: number } | undefined;

  constructor(readonly viewer: Viewer) {
    viewer.socket.on("connect", () => {
      this.#replaying = undefined;
    });
    viewer.socket.onAny((_name: string, envelope: Envelope, offset?: SequenceId) =>
      this.#take(envelope, offset),
    );
  }

  get replaying(): boolean {
    return this.#replaying !== undefined;
  }

  /** What the client would resume from. */
  get lastOffset(): SequenceId | undefined {
    return this.changes.findLast(({ offset }) => offset !== undefined)?.offset;
  }

  get live(): Received[] {
    return this.changes.filter(({ replayed }) => !replayed);
  }

  /** How many were announced as dropped, for good or until their refill. */
  get announced(): number {
    return this.drops.reduce((sum, { count }) => sum + count, 0);
  }

  /** Where an offset said that everything before it was sent, and an event that was due before it was not. */
  skipped(due: SequenceId[]): string | undefined {
    const has = new Set<SequenceId>();
    let next = 0;
    for (const { id, offset } of this.changes) {
      has.add(id);
      if (offset === undefined) continue;
      for (; next < due.length && compareSequence(due[next] as SequenceId, offset) <= 0; next++) {
        if (!has.has(due[next] as SequenceId)) return `${offset} came before ${due[next]}`;
      }
    }
    return undefined;
  }

  /** Dropped events that no notice's range holds. */
  outsideOfRanges(due: SequenceId[]): SequenceId[] {
    const live = new Set(this.live.map(({ id }) => id));
    return due.filter(
      (id) =>
        !live.has(id) &&
        !this.drops.some(
          ({ from_sequence_id: from, to_sequence_id: to }) =>
            from && to && compareSequence(from, id) <= 0 && compareSequence(id, to) <= 0,
        ),
    );
  }

  #take({ event_type, sequence_id, priority, payload }: Envelope, offset?: SequenceId): void {
    if (event_type === "AGENT_STATUS_CHANGED") {
      const replayed = this.#replaying !== undefined && offset !== undefined;
      if (this.#replaying && replayed) this.#replaying.count++;
      this.changes.push({
        id: sequence_id as SequenceId,
        offset,
        at: performance.now(),
        urgent: priority === "CRITICAL",
        replayed,
      });
    } else if (event_type === "MESSAGES_DROPPED") {
      this.drops.push(payload as PayloadOf<"MESSAGES_DROPPED">);
    } else if (event_type === "REPLAY_START") {
      if (this.#replaying) this.miscounts.push("REPLAY_START in a replay");
      this.#replaying = { count: 0 };
    } else if (event_type === "REPLAY_END") {
      const end = payload as PayloadOf<"REPLAY_END">;
      if (this.#replaying?.count !== end.count)
        this.miscounts.push(`${this.#replaying?.count} events, REPLAY_END says ${end.count}`);
      this.replays.push(end);
      this.#replaying = undefined;
    }
  }
}

/** How long (ms) those so many took, of all that came one after another, that took the least; for fewer: for ever. */
export function quickest(times: number[], many: number): number {
  const sorted = [...times].sort((a, b) => a - b);
  let least = Number.POSITIVE_INFINITY;
  for (let end = many - 1; end < sorted.length; end++)
    least = Math.min(least, (sorted[end] as number) - (sorted[end - many + 1] as number));
  return least;
}
