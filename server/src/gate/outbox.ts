import type { SequenceId } from "@agentwire/shared";
import type { Counters } from "./counters.js";
import type { Frame } from "./frame.js";
import type { Line, Sendable } from "./line.js";
import { addTo, Loss, type Reason } from "./loss.js";
import { type Bounds, Queue, type Terms, type Waiting } from "./queue.js";
import type { Share, Waiter } from "./share.js";
import { FEW, TOO_MANY } from "./unread.js";
import { SlidingLog, WINDOW_MS } from "./window.js";

/** What all outboxes of a node have in common. */
export interface Limits {
  bounds: Bounds;
  /** Messages that a connection may get in any second; 0: as many as there are. */
  perSecond: number;
  /** How long a message waits for the limits, in ms. */
  ttlMs: number;
  /** This node's share of the cluster's limit. */
  share: Pick<Share, "take" | "wait" | "leave">;
  /** Milliseconds of a monotonic clock. */
  now(): number;
}

/** What an outbox needs of the connection that it writes to. */
export type OutboxLine = Pick<
  Line,
  "open" | "writable" | "slow" | "expect" | "size" | "write" | "writeAll" | "close"
>;

/** So much is handed to the network at once. */
const BATCH_BYTES = 65_536;
/** A message on its way to the line. */
interface Departing extends Sendable {
  offset: boolean;
  next?: Waiting;
}

/** Whether the limits on messages count it. Of bytes the publisher is limited: 1 MB is 256 messages. */
const isCounted = ({ urgent, delivery }: Frame, terms: Terms): boolean =>
  terms !== "free" && !urgent && delivery !== "bytes";

/** The connection's own limit, or the cluster's. */
type Limit = "own" | "share";

/** What became of a turn to send one message, see {@link Waiter}. */
type Turn = ReturnType<Waiter["turn"]>;

/**
 * The way out to one connection. What may leave leaves at once; the rest waits in order of priority, within bounds; what
 * does not fit is dropped and announced. Of all that was offered, each message is sent, waits, or is counted in a notice.
 */
export class Outbox implements Waiter {
  /** None where nothing had to wait yet: most connections are idle. */
  #queue: Queue | undefined;
  readonly #own: SlidingLog;
  #arrivals = 0;
  /** `log` events that were dropped and will be replayed, since the last notice. */
  #missed: Loss[] = [];
  #missedBecause: Reason = "backpressure";
  #timer: NodeJS.Timeout | undefined;
  #awaited: { upTo: number; only: "bytes" | undefined; resolve(): void }[] = [];
  /** The first `log` event that was dropped while the last message came in. */
  #cut = Number.POSITIVE_INFINITY;
  /** The cluster's limit held something back within the second before. */
  #shortUntil = Number.NEGATIVE_INFINITY;
  /** Told when a live `log` event was dropped: from this position on a refill must bring them. */
  onBehind: (at: SequenceId, reason: Reason) => void = () => {};
  /** Told of a `state` message that was dropped, and gave way to no newer one of its task. */
  onStale: (frame: Frame) => void = () => {};

  constructor(
    private readonly line: OutboxLine,
    private readonly limits: Limits,
    private readonly counters: Counters,
    /** Whether `log` events carry their offset. */
    private readonly offsets: boolean,
  ) {
    this.#own = new SlidingLog(limits.perSecond);
  }

  /** Bytes that wait here. */
  get bytes(): number {
    return this.#queue?.bytes ?? 0;
  }

  /** Of these, in terminal output. */
  get output(): number {
    return this.#queue?.output ?? 0;
  }

  /**
   * Sends a message as soon as it may leave.
   *
   * @param before of a live `log` event: the connection's position before it; without one it is sent out of its order
   * @returns whether it is certain that everything of the log before it leaves first: not for an event that may
   * overtake others, or was dropped
   */
  send(frame: Frame, terms: Terms, before?: SequenceId): boolean {
    const ordered = terms !== "live" || before !== undefined;
    // What waits while the line is free waits for a limit, which bytes need not.
    const isNext = this.#idle || (frame.delivery === "bytes" && !this.#queue?.front("bytes"));
    if (isNext && this.line.writable && this.#may(frame, terms)) {
      this.counters.delivered[frame.delivery]++;
      this.counters.bytes += this.line.write(frame, this.#carriesOffset(frame, ordered));
      return ordered;
    }
    this.counters.queued++;
    this.#queue ??= new Queue(this.limits.bounds, (...dropped) => this.#drop(...dropped));
    const message = this.#waiting(frame, terms, ordered, before);
    const mayOvertake = terms === "live" && frame.urgent && this.#queue.holdsLogBefore(message.arrival);
    this.#cut = Number.POSITIVE_INFINITY;
    this.#queue.add(message, this.#cause);
    // To let it in, one before it may have been dropped.
    if (terms === "live" && this.#cut < message.arrival) message.ordered = false;
    this.flush();
    if (this.#queue.said > FEW) this.#closeUnread(this.#queue);
    return message.ordered && this.#cut > message.arrival && !mayOvertake;
  }

  /** Counts a `log` event that is not sent now, because the connection is behind: its refill brings it. */
  miss(frame: Frame): void {
    this.counters.dropped[this.#missedBecause].log++;
    addTo(this.#missed, frame, this.#missedBecause);
  }

  /** Forgets what waits and may not be sent: nobody is told, it was never this connection's. */
  withdraw(maySend: (frame: Frame) => boolean): void {
    this.#queue?.keep(maySend);
    this.flush();
  }

  /** Says what was dropped of `log` events since the last time. */
  announceMissed(): void {
    for (const loss of this.#missed.splice(0)) this.send(loss.notice(), "free");
  }

  /**
   * Resolves when what was sent until now has left for the network, or the connection is gone.
   * @param only when no terminal output waits: that leaves past what the limits hold back
   */
  drained(only?: "bytes"): Promise<void> {
    const upTo = this.#arrivals;
    if (this.#hasLeft(upTo, only) || !this.line.open) return Promise.resolve();
    this.line.expect();
    return new Promise((resolve) => this.#awaited.push({ upTo, only, resolve }));
  }

  /** To be called when the connection is gone. */
  close(): void {
    clearTimeout(this.#timer);
    this.limits.share.leave(this);
    for (const { resolve } of this.#awaited.splice(0)) resolve();
  }

  turn(): Turn {
    return this.flush(true);
  }

  /**
   * Writes what may leave now.
   * @param granted one message has been taken from the cluster's limit already
   */
  flush(granted = false): Turn {
    if (this.#awaited.length > 0) this.#tellDrained();
    const queue = this.#queue;
    if (!queue || queue.empty) {
      if (this.#awaited.length > 0) this.line.expect();
      return "unused";
    }
    clearTimeout(this.#timer);
    if (!this.line.writable) {
      this.line.expect();
      return "unused";
    }
    const now = this.limits.now();
    const { batch, stopped, unused } = this.#collect(queue, now, granted);
    if (stopped === "share") this.#shortUntil = now + WINDOW_MS;
    if (batch.length > 0) {
      for (const { frame } of batch) this.counters.delivered[frame.delivery]++;
      this.counters.bytes += this.line.writeAll(batch);
    }
    // What the limits hold back for too long goes, and leaves notices that nothing holds back.
    if (stopped && queue.expire(now - this.limits.ttlMs) && !granted) return this.flush();
    if (stopped && !queue.empty) this.#waitUntil(queue, stopped, now, granted);
    if (this.#awaited.length > 0 || (!stopped && !queue.empty)) this.line.expect();
    return unused ? "unused" : stopped === "share" && !queue.empty ? "again" : "sent";
  }

  /** Takes from the queue what may leave now, and says which limit stopped it. */
  #collect(queue: Queue, now: number, granted: boolean) {
    const batch: Departing[] = [];
    let bytes = 0;
    let unused = granted;
    let stopped: Limit | undefined;
    // Past what a limit stops, bytes go on: they are not counted.
    let only: "bytes" | undefined;
    for (let next = queue.front(); next && bytes < BATCH_BYTES; next = queue.front(only)) {
      if (next instanceof Loss) {
        queue.shift(only);
        batch.push({ frame: next.notice(), offset: false });
        continue;
      }
      if (!only && isCounted(next.frame, next.terms)) {
        if (this.#own.nextAt(now) > now) stopped = "own";
        else if (!unused && !this.limits.share.take(now)) stopped = "share";
        if (stopped) {
          only = "bytes";
          continue;
        }
        unused = false;
        this.#own.take(now);
      }
      queue.shift(only);
      const first = !queue.holdsLogBefore(next.arrival);
      batch.push({ frame: next.frame, offset: this.#carriesOffset(next.frame, next.ordered && first), next });
      bytes += next.bytes;
    }
    if (queue.empty) this.#restoreOrder(batch);
    return { batch, stopped, unused };
  }

  /** Where all that waited leaves at once nobody needs to overtake. */
  #restoreOrder(batch: Departing[]): void {
    const log = batch.filter(({ frame }) => frame.delivery === "log");
    if (log.every(({ offset }) => offset)) return;
    log.sort((a, b) => (a.next?.arrival ?? 0) - (b.next?.arrival ?? 0));
    for (const one of log) one.offset = this.#carriesOffset(one.frame, one.next?.ordered ?? false);
    let n = 0;
    for (const [i, { frame }] of batch.entries()) {
      if (frame.delivery === "log") batch[i] = log[n++] as Departing;
    }
  }

  #waitUntil(queue: Queue, stopped: Limit, now: number, granted: boolean): void {
    // Who has the turn says "again" instead.
    if (stopped === "share" && !granted) this.limits.share.wait(this);
    const expires = queue.oldest + this.limits.ttlMs;
    const wake = stopped === "own" ? Math.min(expires, this.#own.nextAt(now)) : expires;
    if (wake === Number.POSITIVE_INFINITY) return;
    this.#timer = setTimeout(() => this.flush(), Math.max(1, Math.ceil(wake - now)));
  }

  /** Whether the limits let this one pass now; if so, it counts. */
  #may(frame: Frame, terms: Terms): boolean {
    if (!isCounted(frame, terms)) return true;
    const now = this.limits.now();
    return this.#own.nextAt(now) <= now && this.limits.share.take(now) && this.#own.take(now);
  }

  /** Why something has to wait now: who is over a limit is so also while the client does not read. */
  get #cause(): Reason {
    const now = this.limits.now();
    const limited = !this.line.slow || this.#own.nextAt(now) > now || now < this.#shortUntil;
    return limited ? "rate_limit" : "backpressure";
  }

  #hasLeft(upTo: number, only?: "bytes"): boolean {
    if (!this.line.writable) return false;
    return only ? this.output === 0 : !this.#queue?.holdsBefore(upTo);
  }

  get #idle(): boolean {
    return this.#queue === undefined || this.#queue.empty;
  }

  #carriesOffset({ delivery }: Frame, ordered: boolean): boolean {
    return this.offsets && ordered && delivery === "log";
  }

  #waiting(frame: Frame, terms: Terms, ordered: boolean, before?: SequenceId): Waiting {
    const bytes = this.line.size(frame, this.#carriesOffset(frame, ordered));
    const since = this.limits.now();
    const arrival = this.#arrivals++;
    return { frame, terms, arrival, ordered, bytes, since, ...(before !== undefined && { before }) };
  }

  #drop({ frame, before, arrival }: Waiting, reason: Reason, merged: boolean): void {
    this.counters.dropped[reason][frame.delivery]++;
    if (merged) this.counters.merged++;
    else if (frame.delivery === "state") this.onStale(frame);
    if (frame.delivery !== "log") return;
    this.#cut = Math.min(this.#cut, arrival);
    this.#missedBecause = reason;
    addTo(this.#missed, frame, reason);
    if (before !== undefined) this.onBehind(before, reason);
  }

  #tellDrained(): void {
    const left = this.#awaited.filter(({ upTo, only }) => this.#hasLeft(upTo, only));
    this.#awaited = this.#awaited.filter((one) => !left.includes(one));
    for (const { resolve } of left) resolve();
  }

  /** What the server itself says is not dropped; who asks for so much of it without reading does not stay. */
  #closeUnread({ said, bytes }: Queue): void {
    if (!this.line.open || (said <= TOO_MANY && bytes <= 2 * this.limits.bounds.bytes)) return;
    this.counters.closedUnread++;
    this.line.close();
  }
}
