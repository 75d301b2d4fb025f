import type { Frame } from "../../server/src/gate/frame.js";
import type { Terms } from "../../server/src/gate/queue.js";
import {
  bytesFrame,
  controlFrame,
  type HandClock,
  logFrame,
  numberOf,
  sequenceId,
  stateFrame,
  type Written,
} from "./gate.js";
import { OutboxClient, type Rule } from "./outbox-client.js";
import { Desk, type Settings } from "./outbox-rig.js";

const SECOND = 1000;

export type Step =
  | { log: { urgent: boolean; size: number } }
  | { state: { task: string; size: number } }
  | { bytes: { task: string; length: number } }
  | { control: { size: number } }
  | { ready: true }
  | { block: true }
  | { wait: number }
  | { grant: number }
  | { refill: "free" | "limited" }
  | { drained: true };

/** An outbox with a node before it that does what connection and join do, and a client after it that keeps the books. */
export class World {
  readonly broken: { rule: Rule; what: string }[] = [];
  readonly #settings: Settings;
  readonly #desk: Desk;
  readonly #client: OutboxClient;

  readonly #terms = new Map<Frame, Terms>();
  /** When it was offered (ms), of each that was not written. */
  readonly #since = new Map<Frame, number>();
  readonly #offered = { log: 0, state: 0, bytes: 0, control: 0 };
  readonly #log: { urgent: boolean; size: number }[] = [];
  /** Live ones in their order, by number, that wait or were written. */
  readonly #live = new Map<number, Frame>();
  readonly #answers = new Map<Frame, boolean>();
  /** Everything after this one is for the refill. */
  #behind: number | undefined;
  #missed = 0;
  readonly #steps = new Map<string, number>();
  readonly #produced = new Map<string, number>();
  /** Lengths, by task and offset. */
  readonly #chunks = new Map<string, number>();

  /** What the server says, and what stands in the order of the log: not dropped, and not taken by the network yet. */
  readonly #notLeft = new Set<Frame>();
  #onTheWay: Frame[] = [];
  /** Who waits until it is drained, and for what at least. */
  #watched: { done: boolean; sent: Frame[] }[] = [];

  constructor(settings: Settings) {
    this.#settings = settings;
    const desk = new Desk(settings);
    this.#desk = desk;
    this.#client = new OutboxClient(
      settings.perSecond,
      (task, offset) => this.#chunks.get(`${task} ${offset}`),
      this.#break.bind(this),
    );
    desk.outbox.onBehind = (at) => this.#onBehind(numberOf(at));
    desk.line.onLeft = () => {
      for (const frame of this.#onTheWay.splice(0)) this.#notLeft.delete(frame);
    };
    desk.line.onWrite = (one) => this.#onWrite(one);
  }

  get clock(): HandClock {
    return this.#desk.clock;
  }

  async take(step: Step): Promise<void> {
    if ("log" in step) this.#publish(step.log);
    else if ("state" in step) this.#send(this.#nextState(step.state));
    else if ("bytes" in step) this.#send(this.#nextBytes(step.bytes));
    else if ("control" in step) this.#send(controlFrame(step.control.size), "free");
    else if ("ready" in step) this.#desk.line.ready();
    else if ("block" in step) this.#desk.line.block();
    else if ("wait" in step) this.clock.move(step.wait);
    else if ("grant" in step) this.#desk.share.grant(step.grant);
    else if ("refill" in step) this.#refill(step.refill);
    else this.#watch();
    await this.#check();
  }

  /** The client reads, the limits have room, what was dropped is refilled: all must come to rest. */
  async settle(): Promise<void> {
    for (let n = 0; this.#waits() || this.#behind !== undefined || !this.#desk.line.writable; n++) {
      if (n > 600) return this.#break("accounts", "does not come to rest");
      await this.take({ ready: true });
      if (this.#desk.share.room === 0) await this.take({ grant: Number.POSITIVE_INFINITY });
      await this.take({ refill: "limited" });
      await this.take({ wait: 500 });
    }
    const { dropped, delivered } = this.#desk.counters;
    const sum = (delivery: "log" | "state" | "bytes") =>
      dropped.backpressure[delivery] + dropped.rate_limit[delivery] + dropped.expired[delivery];
    this.#same("accounts", "all of the log came", this.#client.has.size, this.#log.length);
    this.#same("accounts", "announced of the log", this.#client.announced.log, sum("log"));
    this.#same("accounts", "announced of the states", this.#client.announced.state, sum("state"));
    this.#same(
      "accounts",
      "states",
      this.#client.written.state + this.#client.announced.state,
      this.#offered.state,
    );
    for (const [task, bytes] of this.#produced)
      this.#same("accounts", `bytes of ${task}`, this.#client.bytesHad.get(task), bytes);
    this.#same("accounts", "delivered", delivered, {
      ...this.#client.written,
      control: this.#client.written.control + this.#client.notices,
    });
    this.#same("accounts", "bytes that wait", this.#desk.outbox.bytes, 0);
  }

  #publish({ urgent, size }: { urgent: boolean; size: number }): void {
    const n = this.#log.push({ urgent, size });
    const frame = logFrame(n, { urgent, size });
    if (this.#behind !== undefined && urgent) {
      this.#send(frame);
      return;
    }
    if (this.#behind !== undefined) {
      this.#missed++;
      this.#desk.outbox.miss(frame);
      return;
    }
    this.#live.set(n, frame);
    const answer = this.#send(frame, "live", n - 1);
    this.#answers.set(frame, answer);
    if (answer && !this.#live.has(n))
      this.#break("answer", `${n} was dropped, and it said that it leaves in its order`);
  }

  #send(frame: Frame, terms: Terms = "live", before?: number): boolean {
    this.#terms.set(frame, terms);
    this.#since.set(frame, this.clock.now);
    this.#offered[frame.delivery]++;
    const inOrder =
      frame.delivery === "control" || (frame.delivery === "log" && !(frame.urgent && terms === "live"));
    if (inOrder) this.#notLeft.add(frame);
    return this.#desk.outbox.send(frame, terms, before === undefined ? undefined : sequenceId(before));
  }

  #nextState({ task, size }: { task: string; size: number }): Frame {
    const step = (this.#steps.get(task) ?? 0) + 1;
    this.#steps.set(task, step);
    return stateFrame(task, step, size);
  }

  #nextBytes({ task, length }: { task: string; length: number }): Frame {
    const offset = this.#produced.get(task) ?? 0;
    this.#produced.set(task, offset + length);
    this.#chunks.set(`${task} ${offset}`, length);
    return bytesFrame(task, offset, length);
  }

  /** What the join does: when all has left, it announces what was dropped, and brings it. */
  #refill(pace: "free" | "limited"): void {
    if (this.#behind === undefined || this.#waits() || !this.#desk.line.writable) return;
    const from = this.#behind;
    this.#behind = undefined;
    this.#desk.outbox.announceMissed();
    for (const [at, { urgent, size }] of this.#log.entries())
      if (at >= from) this.#send(logFrame(at + 1, { urgent, size }), pace);
  }

  #onBehind(at: number): void {
    const frame = this.#live.get(at + 1);
    if (!frame || this.#client.has.has(at + 1))
      this.#break("order", `behind at ${at}, but the next one was not dropped`);
    this.#live.delete(at + 1);
    if (frame) {
      this.#since.delete(frame);
      this.#notLeft.delete(frame);
    }
    this.#behind = Math.min(this.#behind ?? at, at);
  }

  #onWrite(one: Written): void {
    const { frame } = one;
    this.#onTheWay.push(frame);
    this.#since.delete(frame);
    const counts = !frame.urgent && frame.delivery !== "bytes" && this.#terms.get(frame) !== "free";
    this.#client.take(one, { counts, inOrder: this.#answers.get(frame) === true });
  }

  #dropped(delivery: "log" | "state" | "bytes" | "control"): number {
    const { backpressure, rate_limit, expired } = this.#desk.counters.dropped;
    const all = backpressure[delivery] + rate_limit[delivery] + expired[delivery];
    return delivery === "log" ? all - this.#missed : all;
  }

  #waitingOf(delivery: "log" | "state" | "bytes" | "control"): number {
    return this.#offered[delivery] - this.#client.written[delivery] - this.#dropped(delivery);
  }

  /** Whether a message waits, or a notice of what is missing. */
  #waits(): boolean {
    const messages = (["log", "state", "bytes", "control"] as const).some((one) => this.#waitingOf(one) > 0);
    return messages || this.#untold();
  }

  #untold(): boolean {
    return (["state", "bytes"] as const).some((one) => this.#client.announced[one] < this.#dropped(one));
  }

  #watch(): void {
    const one = { done: false, sent: [...this.#notLeft] };
    void this.#desk.outbox.drained().then(() => {
      one.done = true;
    });
    this.#watched.push(one);
  }

  /** Who waits, waits at least until what was sent before has left, and no longer than until nothing waits. */
  async #checkDrained(): Promise<void> {
    for (let n = 0; n < 3; n++) await null;
    const drained = !this.#waits() && this.#desk.line.writable;
    for (const { done, sent } of this.#watched) {
      if (!done && drained) this.#break("drained", "not said");
      if (done && sent.some((frame) => this.#notLeft.has(frame))) this.#break("drained", "said too early");
    }
    this.#watched = this.#watched.filter(({ done }) => !done);
  }

  async #check(): Promise<void> {
    for (const delivery of ["log", "state", "bytes", "control"] as const)
      if (this.#waitingOf(delivery) < 0)
        this.#break("accounts", `${delivery}: more written and dropped than offered`);
    if (this.#client.counted.length !== this.#desk.share.spent)
      this.#break(
        "limits",
        `${this.#client.counted.length} counted messages, ${this.#desk.share.spent} paid for`,
      );
    if (this.#desk.line.writable) this.#checkWritable();

    await this.#checkDrained();
  }

  /** What may wait although the line is free, and how long. */
  #checkWritable(): void {
    const { perSecond, ttlMs } = this.#settings;
    const { now } = this.clock;
    const oldestInWindow = this.#client.counted.at(-perSecond);
    const overOwn = perSecond > 0 && oldestInWindow !== undefined && now - oldestInWindow < SECOND;
    const held = overOwn || this.#desk.share.room === 0 || this.#desk.share.waiting > 0;
    if (this.#waits() && !held) this.#break("limits", "waits, and nothing holds it back");
    if (this.#waitingOf("control") > 0) this.#break("limits", "what the server says waits");
    if (this.#waitingOf("bytes") > 0) this.#break("limits", "bytes wait");
    const waiting: number[] = [];
    for (const frame of this.#live.values()) {
      const since = this.#since.get(frame);
      if (since === undefined) continue;
      if (frame.urgent) this.#break("limits", "CRITICAL waits");
      else waiting.push(since);
    }
    const longest = now - Math.min(now, ...waiting);
    if (longest > ttlMs + 1) this.#break("in time", `waits for ${longest} ms`);
  }

  #same(rule: Rule, what: string, is: unknown, should: unknown): void {
    if (JSON.stringify(is) !== JSON.stringify(should))
      this.#break(rule, `${what}: ${JSON.stringify(is)}, not ${JSON.stringify(should)}`);
  }

  #break(rule: Rule, what: string): void {
    this.broken.push({ rule, what });
  }
}
