import { randomUUID } from "node:crypto";
import { earlierSequence, laterSequence, type PayloadOf, type SequenceId, stamp } from "@agentwire/shared";
import { Frame } from "./frame.js";

/**
 * - `backpressure`: the client did not read fast enough
 * - `rate_limit`: more than it may have per second, and than may wait for it
 * - `expired`: waited for the limit longer than `WS_QUEUE_TTL`
 */
export type Reason = PayloadOf<"MESSAGES_DROPPED">["reason"];

/** What is missing in one place of the order: counted as it grows, then said as one notice. */
export class Loss {
  #count = 0;
  #sequence: { from: SequenceId; to: SequenceId } | undefined;
  /** Of terminal output: the bytes from, and up to, not including. */
  #range: { task_id: string; from: number; to: number } | undefined;

  constructor(
    readonly reason: Reason,
    readonly namespace: string,
    readonly event_type: string,
    readonly recoverable: boolean,
  ) {}

  get count(): number {
    return this.#count;
  }

  /** Counts this one in. False, and nothing changes, where it does not belong to the same notice. */
  add(frame: Frame, reason: Reason): boolean {
    const { envelope, namespace } = frame;
    if (reason !== this.reason || namespace !== this.namespace || envelope.event_type !== this.event_type)
      return false;
    if (frame.delivery === "bytes" && !this.#addBytes(envelope.payload as PayloadOf<"TERMINAL_OUTPUT">))
      return false;
    const { sequence_id: id } = envelope;
    if (id !== undefined) {
      const { from, to } = this.#sequence ?? { from: id, to: id };
      this.#sequence = { from: earlierSequence(from, id), to: laterSequence(to, id) };
    }
    this.#count++;
    return true;
  }

  /** Bytes are one range only where they are next to each other. */
  #addBytes({ task_id, offset, data }: PayloadOf<"TERMINAL_OUTPUT">): boolean {
    const range = this.#range;
    if (range && (range.task_id !== task_id || range.to !== offset)) return false;
    this.#range = { task_id, from: range?.from ?? offset, to: offset + data.byteLength };
    return true;
  }

  notice(): Frame {
    if (this.#range) {
      const payload = { ...this.#range, reason: this.reason };
      return new Frame(this.namespace, stamp("BYTES_DROPPED", randomUUID(), payload));
    }
    const payload = {
      event_type: this.event_type,
      count: this.#count,
      reason: this.reason,
      ...(this.#sequence && {
        from_sequence_id: this.#sequence.from,
        to_sequence_id: this.#sequence.to,
      }),
      recoverable: this.recoverable,
    };
    return new Frame(this.namespace, stamp("MESSAGES_DROPPED", randomUUID(), payload));
  }
}

/** What this message is missing as, when it is dropped for this reason. */
export function lossOf(frame: Frame, reason: Reason): Loss {
  const loss = new Loss(reason, frame.namespace, frame.envelope.event_type, frame.delivery === "log");
  loss.add(frame, reason);
  return loss;
}

/** Counts a message into the last notice that it belongs to, or begins another one. */
export function addTo(losses: Loss[], frame: Frame, reason: Reason): void {
  if (!losses.some((loss) => loss.add(frame, reason))) losses.push(lossOf(frame, reason));
}
