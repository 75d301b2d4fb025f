import type { PayloadOf } from "@agentwire/shared";
import { expect } from "chai";
import type { Frame } from "../../server/src/gate/frame.js";
import { Loss, type Reason } from "../../server/src/gate/loss.js";
import { type Bounds, Queue, type Terms, type Waiting } from "../../server/src/gate/queue.js";
import { bytesFrame, controlFrame, logFrame, type Notice, noticeIn, sizeOf, stateFrame } from "./gate.js";
import type { Dropped } from "./queue-rig.js";

const tiers = ["control", "CRITICAL", "HIGH", "NORMAL", "LOW"] as const;
type Tier = (typeof tiers)[number];

const taskOf = ({ envelope }: Frame) => (envelope.payload as { task_id: string }).task_id;
const bytesIn = ({ envelope }: Frame) => envelope.payload as PayloadOf<"TERMINAL_OUTPUT">;
const stepOf = ({ envelope }: Frame) => (envelope.payload as PayloadOf<"PROGRESS_UPDATE">).current_step ?? 0;
const droppable = ({ terms, frame }: Waiting) => terms === "live" && frame.delivery !== "control";

/** Where it has to wait: what is replayed waits in the order of the log, whatever its priority. */
function tierOf({ frame, terms }: Waiting): Tier {
  if (frame.delivery === "control") return "control";
  return frame.delivery === "log" && terms !== "live" ? "HIGH" : frame.envelope.priority;
}

interface Incoming {
  message: Waiting;
  tier: Tier;
  reason: Reason;
  /** The older state whose place it takes. */
  merges: Waiting | undefined;
}

export type Kind = "high" | "critical" | "state" | "bytes" | "control";

interface Add {
  kind: Kind;
  task: string;
  size: number;
  /** Of a `log` event. */
  terms: Terms;
  reason: Reason;
  /** What goes by before it (ms). */
  wait: number;
}

/** So many leave; what waits for longer than so many ms goes. */
export type Step = { add: Add } | { shift: number } | { expire: number };

/**
 * The rules, on their own: what waits in which order, what may be dropped when, what has to be told. Each step is done
 * on the queue, and held to them.
 */
export class Rules {
  readonly #queue: Queue;
  /** What waits, in the order in which it has to leave. */
  readonly #tiers: Record<Tier, Waiting[]> = { control: [], CRITICAL: [], HIGH: [], NORMAL: [], LOW: [] };
  #now = 0;
  #incoming: Incoming | undefined;
  #dropped: Dropped[] = [];
  readonly #count = { offered: 0, shifted: 0, dropped: 0 };
  #logged = 0;
  /** By task: the last step of a state that was made, and that has left. */
  readonly #steps = new Map<string, number>();
  readonly #stepsLeft = new Map<string, number>();
  /** By task: how much output there was, and up to where it has left or was told as missing. */
  readonly #produced = new Map<string, number>();
  readonly #accounted = new Map<string, number>();
  /** What was dropped, and not told yet: states by their reason, output by where it begins. */
  readonly #untoldStates = new Map<Reason, number>();
  readonly #untoldBytes = new Map<string, { to: number; reason: Reason }>();

  constructor(private readonly bounds: Bounds) {
    this.#queue = new Queue(bounds, (message, reason, merged) => {
      this.#dropped.push({ message, reason, merged });
      this.#judgeDrop(message, reason, merged);
    });
  }

  take(step: Step): void {
    if ("add" in step) this.#add(step.add);
    else if ("expire" in step) this.#expire(step.expire);
    else for (let n = 0; n < step.shift; n++) this.#shift();
  }

  #add({ kind, task, size, terms, wait, reason }: Add): void {
    this.#now += wait;
    const frame = this.#make(kind, task, size);
    const message: Waiting = {
      frame,
      terms: kind === "control" ? "free" : frame.delivery === "log" ? terms : "live",
      arrival: this.#count.offered++,
      ordered: true,
      bytes: sizeOf(frame),
      since: this.#now,
    };
    const tier = tierOf(message);
    const merges =
      kind === "state" ? this.#tiers.NORMAL.find((one) => taskOf(one.frame) === task) : undefined;
    this.#incoming = { message, tier, reason, merges };
    this.#dropped = [];
    const kept = this.#queue.add(message, reason);

    const lost = this.#dropped.some((one) => one.message === message);
    if (!droppable(message)) expect(this.#dropped).to.deep.equal([]);
    if (merges) {
      expect(this.#dropped[0], "the older one of its task gives way").to.deep.equal({
        message: merges,
        reason,
        merged: true,
      });
      const { live, bytes } = this.#sums();
      const least = [...this.#tiers.LOW, ...this.#tiers.NORMAL];
      if (live > 1 && least.length > 0) expect(bytes, "bytes").to.be.at.most(this.bounds.bytes);
    } else {
      expect(kept, "says whether it was dropped itself").to.equal(!lost);
      if (kept && droppable(message)) expect(this.#fits(message, tier), "fits").to.equal(true);
      if (kept) this.#tiers[tier].push(message);
    }
    this.#incoming = undefined;
    this.#check();
  }

  #shift(): void {
    const front = this.#queue.front();
    const entry = this.#queue.shift();
    expect(entry).to.equal(front);
    const tier = tiers.find((name) => this.#tiers[name].length > 0 || this.#owes(name));
    if (tier === undefined) expect(entry).to.equal(undefined);
    else if (this.#owes(tier)) {
      // What is missing stands before all that still waits.
      expect(entry).to.be.instanceOf(Loss);
      this.#takeNotice(noticeIn((entry as Loss).notice()) as Notice);
    } else {
      expect(entry, "what leaves next").to.equal(this.#tiers[tier].shift());
      this.#takeMessage(entry as Waiting);
    }
    this.#check();
  }

  #expire(age: number): void {
    const before = this.#now - age;
    const high = this.#tiers.HIGH.filter(droppable);
    const due = [
      ...((high[0]?.since ?? before) < before ? high : []),
      ...this.#tiers.LOW.filter(({ since }) => since < before),
    ];
    this.#dropped = [];
    expect(this.#queue.expire(before), "whether there was something").to.equal(due.length > 0);
    expect(this.#dropped).to.deep.equal(
      due.map((message) => ({ message, reason: "expired", merged: false })),
    );
    this.#check();
  }

  /** Everything leaves, and the books are closed. */
  finish(): void {
    while (!this.#queue.empty) this.#shift();
    this.#shift();
    const { offered, shifted, dropped } = this.#count;
    expect(shifted + dropped, "each has left, or was dropped").to.equal(offered);
    expect(Object.fromEntries(this.#accounted), "output").to.deep.equal(Object.fromEntries(this.#produced));
  }

  #make(kind: Kind, task: string, size: number): Frame {
    if (kind === "control") return controlFrame(size);
    if (kind === "state") {
      const step = (this.#steps.get(task) ?? 0) + 1;
      this.#steps.set(task, step);
      return stateFrame(task, step, size);
    }
    if (kind === "bytes") {
      const offset = this.#produced.get(task) ?? 0;
      this.#produced.set(task, offset + size);
      return bytesFrame(task, offset, size);
    }
    return logFrame(++this.#logged, { urgent: kind === "critical", size });
  }

  #sums() {
    const all = tiers.flatMap((name) => this.#tiers[name]);
    const live = all.filter(droppable);
    const bytesOf = (list: Waiting[]) => list.reduce((sum, { bytes }) => sum + bytes, 0);
    return { count: all.length, live: live.length, bytes: bytesOf(all), liveBytes: bytesOf(live) };
  }

  #fits(message: Waiting, tier: Tier): boolean {
    const { live, bytes } = this.#sums();
    if (live === 0) return true;
    return (tier === "CRITICAL" || live < this.bounds.depth) && bytes + message.bytes <= this.bounds.bytes;
  }

  #owes(tier: Tier): boolean {
    return (
      (tier === "LOW" && this.#untoldBytes.size > 0) || (tier === "NORMAL" && this.#untoldStates.size > 0)
    );
  }

  /** Called for each message at the moment at which it is dropped: whether it had to, and is the right one. */
  #judgeDrop(message: Waiting, reason: Reason, merged: boolean): void {
    const incoming = this.#incoming;
    const waiting = this.#tiers[tierOf(message)];
    const at = waiting.indexOf(message);
    expect(reason).to.equal(incoming?.reason ?? "expired");
    if (merged && incoming) waiting[at] = incoming.message;
    else {
      if (incoming) this.#judgeVictim(incoming, message);
      if (at >= 0) waiting.splice(at, 1);
    }
    this.#count.dropped++;
    if (message.frame.delivery === "state")
      this.#untoldStates.set(reason, (this.#untoldStates.get(reason) ?? 0) + 1);
    if (message.frame.delivery === "bytes") {
      const { task_id, offset, data } = bytesIn(message.frame);
      this.#untoldBytes.set(`${task_id} ${offset}`, { to: offset + data.byteLength, reason });
    }
  }

  #judgeVictim({ message, tier, merges }: Incoming, victim: Waiting): void {
    const { live, bytes } = this.#sums();
    const full = merges ? live > 1 && bytes > this.bounds.bytes : !this.#fits(message, tier);
    expect(full, "something has to go").to.equal(true);
    const { LOW, NORMAL, HIGH } = this.#tiers;
    const newest = HIGH.at(-1);
    const least =
      LOW[0] ??
      (tier === "LOW" ? undefined : NORMAL[0]) ??
      (tier === "CRITICAL" && newest && droppable(newest) ? newest : message);
    expect(victim, "the least important").to.equal(least);
  }

  #takeNotice(notice: Notice): void {
    if (notice.of === "messages") {
      expect(notice.event_type).to.equal("PROGRESS_UPDATE");
      const reason = notice.reason as Reason;
      const left = (this.#untoldStates.get(reason) ?? 0) - notice.count;
      expect(left, "not told before").to.be.at.least(0);
      if (left === 0) this.#untoldStates.delete(reason);
      else this.#untoldStates.set(reason, left);
      return;
    }
    const { task_id, from, to, reason } = notice;
    expect(from, "where the last one ended").to.equal(this.#accounted.get(task_id) ?? 0);
    for (let at = from; at < to; ) {
      const key = `${task_id} ${at}`;
      const missing = this.#untoldBytes.get(key);
      expect(missing?.reason, "why").to.equal(reason);
      this.#untoldBytes.delete(key);
      at = missing?.to ?? to;
    }
    this.#accounted.set(task_id, to);
  }

  #takeMessage({ frame }: Waiting): void {
    this.#count.shifted++;
    if (frame.delivery === "bytes") {
      const { task_id, offset, data } = bytesIn(frame);
      expect(offset, "where the last one ended").to.equal(this.#accounted.get(task_id) ?? 0);
      this.#accounted.set(task_id, offset + data.byteLength);
    }
    if (frame.delivery === "state") {
      const task = taskOf(frame);
      expect(stepOf(frame), "not backwards").to.be.above(this.#stepsLeft.get(task) ?? 0);
      this.#stepsLeft.set(task, stepOf(frame));
    }
  }

  #check(): void {
    const queue = this.#queue;
    const { count, live, bytes, liveBytes } = this.#sums();
    expect({ depth: queue.depth, bytes: queue.bytes, said: queue.said }).to.deep.equal({
      depth: live,
      bytes,
      said: this.#tiers.control.length,
    });
    expect(queue.empty).to.equal(count === 0 && !this.#owes("NORMAL") && !this.#owes("LOW"));
    const counted = live - this.#tiers.CRITICAL.length;
    expect(counted, "messages").to.be.at.most(Math.max(1, this.bounds.depth));
    if (live > 1) expect(liveBytes, "bytes").to.be.at.most(this.bounds.bytes);
    const { HIGH } = this.#tiers;
    for (const arrival of [0, ...HIGH.flatMap((one) => [one.arrival, one.arrival + 1])])
      expect(queue.holdsLogBefore(arrival)).to.equal(HIGH.some((one) => one.arrival < arrival));
  }
}
