import type { PayloadOf, SequenceId } from "@agentwire/shared";
import type { Frame } from "../../server/src/gate/frame.js";
import { type Notice, noticeIn, numberOf, type Written } from "./gate.js";

const SECOND = 1000;

/** What may go wrong, each found by a test of its own. */
export type Rule = "offsets" | "order" | "limits" | "in time" | "accounts" | "drained" | "answer";

/** What the node knows of a message that it gave to the outbox. */
export interface Known {
  /** Whether the limits count it. */
  counts: boolean;
  /** Whether the outbox said that it leaves in its order. */
  inOrder: boolean;
}

/** A client after an outbox, which keeps the books of what it gets. */
export class OutboxClient {
  readonly has = new Set<number>();
  readonly written = { log: 0, state: 0, bytes: 0, control: 0 };
  /** Messages that count against the limits: when they were written. */
  readonly counted: number[] = [];
  readonly announced = { log: 0, state: 0, bytes: 0 };
  readonly bytesHad = new Map<string, number>();
  notices = 0;
  #lastOffset = 0;
  #lastHigh = 0;
  readonly #stepsHad = new Map<string, number>();

  /** @param lengthOf how long the output of this task was that began at this offset */
  constructor(
    private readonly perSecond: number,
    private readonly lengthOf: (task: string, offset: number) => number | undefined,
    private readonly broken: (rule: Rule, what: string) => void,
  ) {}

  take({ frame, offset, at }: Written, { counts, inOrder }: Known): void {
    const notice = noticeIn(frame);
    if (notice) return this.#takeNotice(notice);
    this.written[frame.delivery]++;
    if (counts) this.#count(at);
    if (frame.delivery === "log") this.#takeLog(frame, offset, inOrder);
    else if (offset) this.broken("offsets", `${frame.envelope.event_id} has an offset`);
    if (frame.delivery === "state") {
      const { task_id, current_step } = frame.envelope.payload as PayloadOf<"PROGRESS_UPDATE">;
      const step = current_step ?? 0;
      if (step <= (this.#stepsHad.get(task_id) ?? 0)) this.broken("order", `${task_id} went back to ${step}`);
      this.#stepsHad.set(task_id, step);
    }
    if (frame.delivery === "bytes") {
      const { task_id, offset: from, data } = frame.envelope.payload as PayloadOf<"TERMINAL_OUTPUT">;
      this.#takeBytes(task_id, from, from + data.byteLength);
    }
  }

  #takeNotice(notice: Notice): void {
    this.notices++;
    if (notice.of === "bytes") {
      const { task_id, from, to } = notice;
      for (let at = from; at < to; at += this.lengthOf(task_id, at) ?? to) this.announced.bytes++;
      this.#takeBytes(task_id, from, to);
    } else if (notice.event_type === "PROGRESS_UPDATE") this.announced.state += notice.count;
    else this.announced.log += notice.count;
  }

  #count(at: number): void {
    const { perSecond } = this;
    this.counted.push(at);
    const first = this.counted.at(-1 - perSecond);
    if (perSecond > 0 && first !== undefined && at - first < SECOND)
      this.broken("limits", `${perSecond + 1} messages in ${at - first} ms`);
  }

  #takeLog(frame: Frame, offset: boolean, inOrder: boolean): void {
    const n = numberOf(frame.envelope.sequence_id as SequenceId);
    this.has.add(n);
    if (!frame.urgent) {
      if (n <= this.#lastHigh) this.broken("order", `${n} came after ${this.#lastHigh}`);
      this.#lastHigh = n;
    }
    if (inOrder && !offset) this.broken("answer", `${n} left without the offset that it was said to carry`);
    if (!offset) return;
    if (n <= this.#lastOffset) this.broken("offsets", `offset ${n} came after ${this.#lastOffset}`);
    this.#lastOffset = n;
    for (let before = 1; before < n; before++)
      if (!this.has.has(before)) return this.broken("offsets", `offset ${n}, but ${before} was not written`);
  }

  #takeBytes(task: string, from: number, to: number): void {
    const had = this.bytesHad.get(task) ?? 0;
    if (from !== had) this.broken("order", `${task}: ${from}..${to} came after ${had}`);
    this.bytesHad.set(task, to);
  }
}
