import { randomUUID } from "node:crypto";
import { type Envelope, type EventType, type PayloadOf, type SequenceId, stamp } from "@agentwire/shared";
import type { Socket } from "socket.io";
import { type Counters, createCounters } from "./counters.js";
import type { Encoding } from "./encoding.js";
import { Frame } from "./frame.js";
import { type EngineConnection, Line } from "./line.js";
import type { Reason } from "./loss.js";
import { type Limits, Outbox } from "./outbox.js";
import { Ticks } from "./ticks.js";
import { closeUnread } from "./unread.js";

/** How one connection takes its events. */
export interface Variant {
  encoding: Encoding;
  /** Whether `log` events carry their offset as a last argument. */
  offsets: boolean;
}

/** One namespace's way out to one connection. */
export class Exit {
  constructor(
    private readonly socket: Socket,
    private readonly outbox: Outbox,
    private readonly counters: Counters,
  ) {}

  get open(): boolean {
    return this.socket.connected;
  }

  /** Bytes that wait for this connection. */
  get waiting(): number {
    return this.outbox.bytes;
  }

  /** Of these, in terminal output. */
  get waitingOutput(): number {
    return this.outbox.output;
  }

  /**
   * A live event of the log, in its order.
   * @param before the connection's position before it
   */
  send(event: Frame, before: SequenceId): void {
    this.outbox.send(event, "live", before);
  }

  /** A live event that others of the log, before it, were not sent yet. */
  overtake(event: Frame): void {
    this.outbox.send(event, "live");
  }

  /** A live event that is not of the log. */
  show(event: Frame): void {
    this.outbox.send(event, "live");
  }

  /** An event of a replay: no limit counts it, and it is not dropped. */
  replay(event: Frame): void {
    this.outbox.send(event, "free");
  }

  /** An event that was dropped, or came after one that was. It is not dropped again. */
  refill(event: Frame, pace: "free" | "limited"): void {
    this.counters.refilled++;
    this.outbox.send(event, pace);
  }

  /** A live event that is not sent now and will be replayed: it is counted, and announced. */
  miss(event: Frame): void {
    this.outbox.miss(event);
  }

  announceMissed(): void {
    this.outbox.announceMissed();
  }

  /** What the server itself says to this connection. */
  say<E extends EventType>(event_type: E, payload: PayloadOf<E>): void {
    if (!this.open) return;
    this.outbox.send(new Frame(this.socket.nsp.name, stamp(event_type, randomUUID(), payload)), "free");
  }

  /** Resolves when what was sent has left, or the connection is gone; with `only`, when no terminal output waits. */
  drained(only?: "bytes"): Promise<void> {
    return this.outbox.drained(only);
  }

  /** Forgets what waits and may not be sent any more: a right to it is gone. */
  withdraw(maySend: (event: Frame) => boolean): void {
    this.outbox.withdraw((frame) => frame.namespace !== this.socket.nsp.name || maySend(frame));
  }

  onBehind(listener: (at: SequenceId, reason: Reason) => void): void {
    this.outbox.onBehind = listener;
  }

  onStale(listener: (event: Frame) => void): void {
    this.outbox.onStale = listener;
  }
}

/** The gate of one node: everything that is said to its connections leaves through one outbox for each of them. */
export function openGate(options: Omit<Limits, "now">) {
  const ticks = new Ticks();
  const limits: Limits = { ...options, now: ticks.now };
  const counters = createCounters();
  const outboxes = new WeakMap<object, Outbox>();

  const outboxOf = (connection: Socket["conn"], { encoding, offsets }: Variant): Outbox => {
    const known = outboxes.get(connection);
    if (known) return known;
    const line = new Line(connection as unknown as EngineConnection, encoding, ticks, () => outbox.flush());
    const outbox = new Outbox(line, limits, counters, offsets);
    outboxes.set(connection, outbox);
    connection.once("close", () => outbox.close());
    return outbox;
  };

  return {
    counters,
    frame: (namespace: string, envelope: Envelope) => new Frame(namespace, envelope),
    /** For each connection, as soon as it is there. */
    guard: (connection: Socket["conn"]) =>
      closeUnread(connection as never, limits.bounds.bytes, () => counters.closedUnread++),
    exit: (socket: Socket, variant: Variant) => new Exit(socket, outboxOf(socket.conn, variant), counters),
  };
}
