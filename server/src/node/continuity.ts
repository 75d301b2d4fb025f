import { compareSequence, SEQUENCE_START, type SequenceId } from "@agentwire/shared";

/** Knows the last durable event this node handled, and notices when one is missing. */
export class Continuity {
  #lastSeenBehind: SequenceId | undefined;
  #epoch: string;
  /** The history before this one. */
  #former: string | undefined;
  /** An entry came that does not know of the last one: Redis has lost that, and who has not heard it never will. */
  lostEnd = false;

  constructor(
    epoch = "",
    public last: SequenceId = SEQUENCE_START,
  ) {
    this.#epoch = epoch;
  }

  get epoch(): string {
    return this.#epoch;
  }

  set epoch(name: string) {
    if (name === this.#epoch) return;
    this.#former = this.#epoch;
    this.#epoch = name;
    this.lostEnd = false;
  }

  /**
   * Each entry names the one before it. One of the former history was appended before this one had its name: everybody is
   * brought up to date from after that.
   */
  judgeEntry(entry: {
    id: SequenceId;
    prev: SequenceId;
    epoch: string;
  }): "next" | "repeat" | "gap" | "other_history" {
    if (entry.epoch === this.#former) return "repeat";
    if (entry.epoch !== this.epoch) return "other_history";
    if (compareSequence(entry.id, this.last) <= 0) return "repeat";
    if (compareSequence(entry.prev, this.last) < 0) this.lostEnd = true;
    return entry.prev === this.last ? "next" : "gap";
  }

  /**
   * Compares with what stands in Redis, to be called from time to time: a reader that hears nothing finds no gap.
   * `behind` only when not one entry came since the last look, and that one found more in Redis than here too.
   *
   * @param before `last` when Redis was asked: what came in while it answered is no sign that Redis went back
   */
  judgeHead(
    found: { head: SequenceId; epoch: string },
    before: SequenceId,
  ): "level" | "behind" | "other_history" | "rolled_back" {
    if (found.epoch !== this.epoch) return "other_history";
    if (compareSequence(found.head, before) < 0) return "rolled_back";
    const lags = compareSequence(found.head, this.last) > 0;
    const stuck = lags && this.#lastSeenBehind === this.last;
    this.#lastSeenBehind = lags ? this.last : undefined;
    return stuck ? "behind" : "level";
  }
}
