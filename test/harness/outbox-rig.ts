import type { SequenceId } from "@agentwire/shared";
import { createCounters } from "../../server/src/gate/counters.js";
import type { Frame } from "../../server/src/gate/frame.js";
import { Outbox } from "../../server/src/gate/outbox.js";
import type { Terms } from "../../server/src/gate/queue.js";
import {
  FakeLine,
  FakeShare,
  HandClock,
  type LogFrameOptions,
  logFrame,
  noticeIn,
  sequenceId,
} from "./gate.js";
import { onTeardown } from "./teardown.js";

export interface Settings {
  depth: number;
  bytes: number;
  perSecond: number;
  ttlMs: number;
  /** What the cluster's limit has for it at the beginning. */
  room: number;
}

const roomy: Settings = {
  depth: 100,
  bytes: 1_000_000,
  perSecond: 0,
  ttlMs: 5000,
  room: Number.POSITIVE_INFINITY,
};

/** An outbox between a line, a share and a clock that are moved by hand. */
export class Desk {
  readonly clock = new HandClock();
  readonly line = new FakeLine(() => this.clock.now);
  readonly share = new FakeShare();
  readonly counters = createCounters();
  readonly outbox: Outbox;
  readonly behind: [at: SequenceId, reason: string][] = [];
  #logged = 0;

  constructor(settings: Partial<Settings> = {}, offsets = true) {
    const { depth, bytes, perSecond, ttlMs, room } = { ...roomy, ...settings };
    const { clock, share } = this;
    share.room = room;
    const limits = { bounds: { depth, bytes }, perSecond, ttlMs, share, now: () => clock.now };
    this.outbox = new Outbox(this.line, limits, this.counters, offsets);
    this.outbox.onBehind = (...one) => this.behind.push(one);
    this.line.onReady = () => this.outbox.flush();
  }

  /** The next event of the log, live. @returns what the outbox says to it */
  log(options?: LogFrameOptions): boolean {
    const n = ++this.#logged;
    return this.outbox.send(logFrame(n, options), "live", sequenceId(n - 1));
  }

  send(frame: Frame, terms: Terms = "live"): void {
    this.outbox.send(frame, terms);
  }

  /** What was written, each with a `+` where it carries its offset; notices by what they say. */
  get sent(): string[] {
    return this.line.written.map(({ frame, offset }) => {
      const notice = noticeIn(frame);
      if (!notice) return `${frame.envelope.event_id}${offset ? "+" : ""}`;
      if (notice.of === "bytes") return `${notice.task_id} ${notice.from}..${notice.to} ${notice.reason}`;
      const range = notice.from === undefined ? "" : ` ${notice.from}..${notice.to}`;
      return `${notice.event_type} ${notice.count}${range} ${notice.reason}`;
    });
  }
}

/** A desk by whose clock the timers of this test run. */
export const openDesk = (settings?: Partial<Settings>, offsets?: boolean): Desk => {
  const desk = new Desk(settings, offsets);
  onTeardown(desk.clock.takeOver());
  return desk;
};
