import type { Frame } from "../../server/src/gate/frame.js";
import { Loss, type Reason } from "../../server/src/gate/loss.js";
import { type Bounds, Queue, type Terms, type Waiting } from "../../server/src/gate/queue.js";
import { bytesFrame, logFrame, type Notice, noticeIn, numberOf, sequenceId, sizeOf } from "./gate.js";

export interface Dropped {
  message: Waiting;
  reason: Reason;
  merged: boolean;
}

/** Takes everything out. */
export function allOf(queue: Queue): (Waiting | Loss)[] {
  const entries: (Waiting | Loss)[] = [];
  for (let next = queue.shift(); next; next = queue.shift()) entries.push(next);
  return entries;
}

/** A queue, and messages that come to it one after the other. */
export function openQueue(bounds: Partial<Bounds> = {}) {
  const dropped: Dropped[] = [];
  const queue = new Queue({ depth: 100, bytes: 1_000_000, ...bounds }, (message, reason, merged) =>
    dropped.push({ message, reason, merged }),
  );
  let arrivals = 0;
  let logged = 0;
  const offsets = new Map<string, number>();
  const clock = { now: 0 };
  const wait = (frame: Frame, terms: Terms = "live"): Waiting => {
    const arrival = arrivals++;
    const at = frame.envelope.sequence_id;
    const before = at && terms === "live" ? { before: sequenceId(numberOf(at) - 1) } : {};
    return { frame, terms, arrival, ordered: true, bytes: sizeOf(frame), since: clock.now, ...before };
  };
  const log = (size?: number, urgent = false) => logFrame(++logged, { size, urgent });
  const bytes = (task = "t1", length = 100) => {
    const offset = offsets.get(task) ?? 0;
    offsets.set(task, offset + length);
    return bytesFrame(task, offset, length);
  };
  const add = (frame: Frame, terms?: Terms, reason: Reason = "backpressure") => {
    const message = wait(frame, terms);
    return { message, kept: queue.add(message, reason) };
  };
  const rest = () => allOf(queue);
  return { queue, dropped, clock, add, wait, log, bytes, rest };
}

const nameOf = (entry: Waiting | Loss): string | Notice => {
  if (!(entry instanceof Loss)) return entry.frame.envelope.event_id;
  return noticeIn(entry.notice()) as Notice;
};
export const names = (entries: (Waiting | Loss)[]) => entries.map(nameOf);
export const idsOf = (dropped: Dropped[]) => dropped.map(({ message }) => message.frame.envelope.event_id);
