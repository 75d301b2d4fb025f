import { AGENTS_NAMESPACE, type SequenceId, stamp, terminalNamespace } from "@agentwire/shared";
import { Frame } from "../../server/src/gate/frame.js";
import type { OutboxLine } from "../../server/src/gate/outbox.js";
import type { Waiter } from "../../server/src/gate/share.js";

/** The n-th event of a log. By number, not by text: "10-0" comes after "9-0". */
export const sequenceId = (n: number): SequenceId => `${n}-0`;
export const numberOf = (id: SequenceId): number => Number(id.slice(0, id.indexOf("-")));

/** What the frames of a test weigh on its line. */
const sizes = new WeakMap<Frame, number>();
const USUAL_SIZE = 100;

export const sizeOf = (frame: Frame): number => sizes.get(frame) ?? USUAL_SIZE;

export function weigh(frame: Frame, size = USUAL_SIZE): Frame {
  sizes.set(frame, size);
  return frame;
}

export interface LogFrameOptions {
  urgent?: boolean | undefined;
  size?: number | undefined;
  agent_id?: string | undefined;
}

/** Of class `log`: HIGH, or CRITICAL where it is urgent. */
export function logFrame(n: number, { urgent = false, size, agent_id = "a1" }: LogFrameOptions = {}): Frame {
  const new_status = urgent ? ("failed" as const) : ("working" as const);
  const payload = { agent_id, project_id: "p1", old_status: null, new_status };
  const envelope = stamp("AGENT_STATUS_CHANGED", `e-${n}`, payload);
  return weigh(new Frame(AGENTS_NAMESPACE, { ...envelope, sequence_id: sequenceId(n) }), size);
}

/** Of class `state`, NORMAL: the task's n-th step. */
export function stateFrame(task_id: string, n: number, size?: number): Frame {
  const payload = {
    task_id,
    agent_id: "a1",
    project_id: "p1",
    current_step: n,
    total_steps: null,
    progress_percent: 0,
    message: "",
    estimated_seconds_remaining: null,
    batched_updates: 1,
  };
  return weigh(new Frame(AGENTS_NAMESPACE, stamp("PROGRESS_UPDATE", `s-${task_id}-${n}`, payload)), size);
}

/** Of class `bytes`, LOW: weighs what it holds, unless told otherwise. */
export function bytesFrame(task_id: string, offset: number, length: number, size = length): Frame {
  const payload = { task_id, stream: "stdout" as const, data: new Uint8Array(length), offset };
  const envelope = stamp("TERMINAL_OUTPUT", `b-${task_id}-${offset}`, payload);
  return weigh(new Frame(terminalNamespace(task_id), envelope), size);
}

/** Of class `control`. */
export function controlFrame(size?: number): Frame {
  return weigh(new Frame(AGENTS_NAMESPACE, stamp("TOKEN_EXPIRING", "c", { expires_in_ms: 1 })), size);
}

/** What a notice says is missing. */
export type Notice =
  | { of: "messages"; event_type: string; count: number; reason: string; from?: SequenceId; to?: SequenceId }
  | { of: "bytes"; task_id: string; from: number; to: number; reason: string };

/** What this frame announces as dropped; nothing where it is no notice. */
export function noticeIn({ envelope: { event_type, payload } }: Frame): Notice | undefined {
  if (event_type === "BYTES_DROPPED") {
    const { task_id, from, to, reason } = payload as {
      task_id: string;
      from: number;
      to: number;
      reason: string;
    };
    return { of: "bytes", task_id, from, to, reason };
  }
  if (event_type !== "MESSAGES_DROPPED") return undefined;
  const said = payload as {
    event_type: string;
    count: number;
    reason: string;
    from_sequence_id?: SequenceId;
    to_sequence_id?: SequenceId;
  };
  const { count, reason, from_sequence_id: from, to_sequence_id: to } = said;
  return {
    of: "messages",
    event_type: said.event_type,
    count,
    reason,
    ...(from && { from }),
    ...(to && { to }),
  };
}

/** A clock that stands still until it is moved, and the timers that run by it. */
export class HandClock {
  now = 0;
  #timers = new Map<object, { at: number; run: () => void }>();

  /** From here on `setTimeout` runs by this clock, until what is returned is called. */
  takeOver(): () => void {
    const { setTimeout, clearTimeout } = globalThis;
    const set = (run: () => void, ms = 0) => {
      const timer = { unref: () => timer };
      this.#timers.set(timer, { at: this.now + Math.max(1, ms), run });
      return timer;
    };
    const clear = (timer: object | undefined) => {
      if (timer) this.#timers.delete(timer);
    };
    Object.assign(globalThis, { setTimeout: set, clearTimeout: clear });
    return () => void Object.assign(globalThis, { setTimeout, clearTimeout });
  }

  /** Moves it on; what is due on the way runs at its own time. */
  move(ms: number): void {
    const end = this.now + ms;
    for (;;) {
      let next: [object, { at: number; run: () => void }] | undefined;
      for (const one of this.#timers) if (one[1].at <= end && (!next || one[1].at < next[1].at)) next = one;
      if (!next) break;
      this.#timers.delete(next[0]);
      this.now = Math.max(this.now, next[1].at);
      next[1].run();
    }
    this.now = end;
  }
}

export interface Written {
  frame: Frame;
  offset: boolean;
  /** By the clock of the test (ms). */
  at: number;
}

/**
 * A line as a WebSocket is one: after a write it is busy, until the network has taken it. It says that it is writable
 * again where somebody expects that, or where the network was slow.
 */
export class FakeLine implements OutboxLine {
  open = true;
  closed = 0;
  readonly written: Written[] = [];
  #busy = false;
  #slow = false;
  #expected = false;
  /** As `Line` calls it. */
  onReady: () => void = () => {};
  /** Called for each message, in its order, when it stands in `written`. */
  onWrite: (one: Written) => void = () => {};
  /** Called when the network has taken what was written, before anybody is told. */
  onLeft: () => void = () => {};

  constructor(private readonly now: () => number = () => 0) {}

  get writable(): boolean {
    return this.open && !this.#busy;
  }

  get slow(): boolean {
    return this.#slow;
  }

  expect(): void {
    this.#expected ||= this.#busy;
  }

  size(frame: Frame): number {
    return sizeOf(frame);
  }

  write(frame: Frame, offset: boolean): number {
    return this.writeAll([{ frame, offset }]);
  }

  writeAll(messages: readonly { frame: Frame; offset: boolean }[]): number {
    if (!this.writable) throw new Error("written while it was not writable");
    if (messages.length === 0) throw new Error("nothing to write");
    this.#busy = true;
    for (const { frame, offset } of messages) {
      const one = { frame, offset, at: this.now() };
      this.written.push(one);
      this.onWrite(one);
    }
    return messages.reduce((sum, { frame }) => sum + sizeOf(frame), 0);
  }

  close(): void {
    this.closed++;
    this.open = false;
  }

  /** The client does not read: nothing can be written until {@link ready}. */
  block(): void {
    this.#busy = true;
    this.#slow = true;
  }

  ready(): void {
    if (!this.#busy || !this.open) return;
    const tell = this.#expected || this.#slow;
    this.#busy = false;
    this.#slow = false;
    this.#expected = false;
    this.onLeft();
    if (tell) this.onReady();
  }
}

/** The cluster's limit, given out by hand. It keeps to what `Share` promises to those who wait. */
export class FakeShare {
  /** So many may be taken. */
  room = Number.POSITIVE_INFINITY;
  /** Messages that were paid for: taken at once, and turns that were used. */
  spent = 0;
  readonly #line = new Set<Waiter>();

  take(): boolean {
    if (this.#line.size > 0 || this.room < 1) return false;
    this.room--;
    this.spent++;
    return true;
  }

  wait(waiter: Waiter): void {
    this.#line.add(waiter);
  }

  leave(waiter: Waiter): void {
    this.#line.delete(waiter);
  }

  get waiting(): number {
    return this.#line.size;
  }

  /** Gives so many more out, first to those who wait. */
  grant(room: number): void {
    this.room += room;
    while (this.room >= 1 && this.giveTurn());
  }

  /** @returns whether somebody waited */
  giveTurn(): boolean {
    const [waiter] = this.#line;
    if (!waiter) return false;
    const outcome = waiter.turn();
    if (outcome !== "unused") {
      this.room--;
      this.spent++;
    }
    const stays = this.#line.delete(waiter) && outcome === "again";
    if (stays) this.#line.add(waiter);
    return true;
  }
}
