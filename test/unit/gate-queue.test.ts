import type { PayloadOf } from "@agentwire/shared";
import { expect } from "chai";
import fc from "fast-check";
import type { Frame } from "../../server/src/gate/frame.js";
import { Loss, type Reason } from "../../server/src/gate/loss.js";
import { type Bounds, Queue, type Terms, type Waiting } from "../../server/src/gate/queue.js";
import {
  bytesFrame,
  controlFrame,
  logFrame,
  type Notice,
  noticeIn,
  numberOf,
  sequenceId,
  sizeOf,
  stateFrame,
} from "../harness/gate.js";

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

interface Dropped {
  message: Waiting;
  reason: Reason;
  merged: boolean;
}

/** A queue, and messages that come to it one after the other. */
function begin(bounds: Partial<Bounds> = {}) {
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
  /** Takes everything out. */
  const rest = () => {
    const entries: (Waiting | Loss)[] = [];
    for (let next = queue.shift(); next; next = queue.shift()) entries.push(next);
    return entries;
  };
  return { queue, dropped, clock, add, wait, log, bytes, rest };
}

const nameOf = (entry: Waiting | Loss): string | Notice => {
  if (!(entry instanceof Loss)) return entry.frame.envelope.event_id;
  return noticeIn(entry.notice()) as Notice;
};
const names = (entries: (Waiting | Loss)[]) => entries.map(nameOf);
const idsOf = (dropped: Dropped[]) => dropped.map(({ message }) => message.frame.envelope.event_id);

describe("queue", () => {
  it("[D20] what the server says leaves first, then the priorities; within one what came first", () => {
    const { add, log, bytes, rest } = begin();
    add(bytes());
    add(stateFrame("t1", 1));
    add(log());
    add(log(100, true));
    add(controlFrame(), "free");
    add(bytes());
    add(stateFrame("t2", 1));
    add(log());
    add(log(100, true));
    expect(names(rest())).to.deep.equal([
      "c",
      "e-2",
      "e-4",
      "e-1",
      "e-3",
      "s-t1-1",
      "s-t2-1",
      "b-t1-0",
      "b-t1-100",
    ]);
  });

  it("[D5] what is replayed keeps the order of the log, also where it is CRITICAL", () => {
    const { add, log, rest } = begin();
    add(log(), "free");
    add(log(100, true), "limited");
    add(log(100, true), "free");
    add(log(), "limited");
    add(log(100, true));
    expect(names(rest())).to.deep.equal(["e-5", "e-1", "e-2", "e-3", "e-4"]);
  });

  it("[D21] above the depth LOW goes first, the oldest first, then NORMAL", () => {
    const { add, log, bytes, dropped } = begin({ depth: 4 });
    add(bytes());
    add(stateFrame("t1", 1));
    add(stateFrame("t2", 1));
    add(bytes());
    for (let n = 0; n < 4; n++) expect(add(log()).kept).to.equal(true);
    expect(idsOf(dropped)).to.deep.equal(["b-t1-0", "b-t1-100", "s-t1-1", "s-t2-1"]);
    expect(dropped.every(({ merged }) => !merged)).to.equal(true);
  });

  it("[D21] above the depth a NORMAL one drops LOW, then the oldest NORMAL; a LOW one the oldest LOW, or itself", () => {
    const { add, bytes, dropped } = begin({ depth: 2 });
    add(bytes());
    add(bytes());
    expect(add(bytes()).kept).to.equal(true);
    for (const task of ["t1", "t2", "t3"]) expect(add(stateFrame(task, 1)).kept).to.equal(true);
    expect(idsOf(dropped)).to.deep.equal(["b-t1-0", "b-t1-100", "b-t1-200", "s-t1-1"]);
    expect(add(bytes()).kept).to.equal(false);
    expect(idsOf(dropped)).to.have.length(5).and.include("b-t1-300");
  });

  it("[D21] where only HIGH and CRITICAL wait a HIGH one goes itself: it is told, and leaves no notice here", () => {
    const { add, log, dropped, rest, queue } = begin({ depth: 2 });
    add(log(100, true));
    add(log());
    const { kept, message } = add(log(), "live", "rate_limit");
    expect(kept).to.equal(false);
    expect(dropped).to.deep.equal([{ message, reason: "rate_limit", merged: false }]);
    expect(queue.depth).to.equal(2);
    expect(names(rest())).to.deep.equal(["e-1", "e-2"]);
  });

  it("[D21] CRITICAL ones wait however many they are, and drop nothing for that", () => {
    const { add, log, bytes, dropped, queue } = begin({ depth: 2 });
    add(bytes());
    add(log());
    for (let n = 0; n < 20; n++) expect(add(log(1, true)).kept).to.equal(true);
    expect({ dropped, depth: queue.depth }).to.deep.equal({ dropped: [], depth: 22 });
  });

  it("[D21] above the bytes a CRITICAL one drops LOW, NORMAL, and the newest HIGH; then it goes itself", () => {
    const { add, log, bytes, dropped } = begin({ bytes: 500 });
    for (const frame of [log(), log(), stateFrame("t1", 1), bytes()]) add(frame);
    for (let n = 0; n < 5; n++) expect(add(log(100, true)).kept).to.equal(true);
    expect(idsOf(dropped)).to.deep.equal(["b-t1-0", "s-t1-1", "e-2", "e-1"]);
    expect(add(log(100, true)).kept).to.equal(false);
    expect(idsOf(dropped).at(-1)).to.equal("e-8");
  });

  it("[D21] no priority but CRITICAL drops a HIGH one", () => {
    const { add, log, bytes, dropped } = begin({ bytes: 300 });
    for (let n = 0; n < 3; n++) add(log());
    for (const frame of [log(), stateFrame("t1", 1), bytes()]) expect(add(frame).kept).to.equal(false);
    expect(idsOf(dropped)).to.deep.equal(["e-4", "s-t1-1", "b-t1-0"]);
  });

  it("[D21] exactly as many messages and bytes as are allowed wait, and not one more", () => {
    const full = begin({ depth: 3, bytes: 300 });
    for (let n = 0; n < 3; n++) expect(full.add(full.log(100)).kept).to.equal(true);
    expect(full.dropped).to.deep.equal([]);
    expect(full.add(full.log(1)).kept).to.equal(false);
    const heavy = begin({ depth: 9, bytes: 300 });
    for (let n = 0; n < 2; n++) heavy.add(heavy.log(100));
    expect(heavy.add(heavy.log(101)).kept).to.equal(false);
    expect(heavy.add(heavy.log(100)).kept).to.equal(true);
    expect(heavy.queue.bytes).to.equal(300);
  });

  it("[D21] where nothing waits, or only what is not dropped, a message of any size fits; a second one does not", () => {
    const { add, log, bytes, dropped, queue } = begin({ bytes: 100 });
    add(controlFrame(90), "free");
    add(log(90), "limited");
    expect(add(log(1000)).kept).to.equal(true);
    expect(add(log(1)).kept).to.equal(false);
    expect(add(bytes("t1", 1)).kept).to.equal(false);
    expect(dropped).to.have.length(2);
    expect(queue.bytes).to.equal(1180);
  });

  it("[D21] what the server says and what is replayed is never dropped, drops nothing, and counts as bytes only", () => {
    const { add, log, dropped, queue } = begin({ depth: 2, bytes: 1000 });
    add(log());
    add(log());
    for (let n = 0; n < 20; n++) {
      expect(add(controlFrame(), "free").kept).to.equal(true);
      expect(add(log(), n % 2 ? "free" : "limited").kept).to.equal(true);
    }
    expect(dropped).to.deep.equal([]);
    expect({ depth: queue.depth, bytes: queue.bytes, said: queue.said }).to.deep.equal({
      depth: 2,
      bytes: 4200,
      said: 20,
    });
    add(log(1, true));
    expect(idsOf(dropped), "they are in nobody's way to be dropped for").to.deep.equal(["e-23"]);
  });

  it("[D21] a newer state takes the place of the older one of its task, which is counted", () => {
    const { add, dropped, rest, queue } = begin();
    for (const [task, n] of [
      ["t1", 1],
      ["t2", 1],
      ["t1", 2],
      ["t3", 1],
      ["t1", 3],
    ] as const)
      expect(add(stateFrame(task, n)).kept).to.equal(true);
    expect(dropped.map(({ merged }) => merged)).to.deep.equal([true, true]);
    expect(idsOf(dropped)).to.deep.equal(["s-t1-1", "s-t1-2"]);
    expect(queue.depth).to.equal(3);
    expect(names(rest())).to.deep.equal([
      { of: "messages", event_type: "PROGRESS_UPDATE", count: 2, reason: "backpressure" },
      "s-t1-3",
      "s-t2-1",
      "s-t3-1",
    ]);
  });

  it("[D21] a newer state needs no room of its own; where it is larger, another one may have to go", () => {
    const { add, bytes, log, dropped, queue } = begin({ depth: 3, bytes: 300 });
    add(stateFrame("t1", 1, 100));
    add(bytes());
    add(log());
    add(stateFrame("t1", 2, 100));
    expect(idsOf(dropped)).to.deep.equal(["s-t1-1"]);
    add(stateFrame("t1", 3, 150));
    expect(idsOf(dropped)).to.deep.equal(["s-t1-1", "s-t1-2", "b-t1-0"]);
    expect({ depth: queue.depth, bytes: queue.bytes }).to.deep.equal({ depth: 2, bytes: 250 });
    add(stateFrame("t1", 4, 250));
    expect(idsOf(dropped).slice(3), "nor does it push out what is more important").to.deep.equal([
      "s-t1-3",
      "s-t1-4",
    ]);
  });

  it("[D21] what is missing of a terminal is told in its place, exactly", () => {
    const { add, bytes, rest } = begin({ depth: 3 });
    for (let n = 0; n < 5; n++) add(bytes("t1", 10));
    add(bytes("t2", 7));
    expect(names(rest())).to.deep.equal([
      { of: "bytes", task_id: "t1", from: 0, to: 30, reason: "backpressure" },
      "b-t1-30",
      "b-t1-40",
      "b-t2-0",
    ]);
  });

  it("[D21] what is missing for another reason is another notice", () => {
    const { add, bytes, rest } = begin({ depth: 1 });
    add(bytes("t1", 10));
    add(bytes("t1", 10), "live", "rate_limit");
    add(bytes("t1", 10), "live", "backpressure");
    add(bytes("t1", 10), "live", "backpressure");
    expect(names(rest())).to.deep.equal([
      { of: "bytes", task_id: "t1", from: 0, to: 10, reason: "rate_limit" },
      { of: "bytes", task_id: "t1", from: 10, to: 30, reason: "backpressure" },
      "b-t1-30",
    ]);
  });

  it("[D20][D21] a status change that waited too long takes all behind it along; replayed ones and CRITICAL stay", () => {
    const { add, log, clock, queue, dropped, rest } = begin();
    add(log(), "limited");
    add(log());
    add(log(100, true));
    clock.now = 50;
    add(log());
    add(log());
    expect(queue.expire(0), "not older than that").to.equal(false);
    expect(queue.expire(1)).to.equal(true);
    expect(queue.expire(1)).to.equal(false);
    expect(idsOf(dropped)).to.deep.equal(["e-2", "e-4", "e-5"]);
    expect(dropped.map(({ reason }) => reason)).to.deep.equal(["expired", "expired", "expired"]);
    expect(names(rest())).to.deep.equal(["e-3", "e-1"]);
  });

  it("[D20][D21] terminal output that waited too long goes, and only that; the newest state of a task stays", () => {
    const { add, bytes, clock, queue, rest } = begin();
    add(stateFrame("t1", 1));
    add(bytes("t1", 10));
    add(bytes("t1", 10));
    add(controlFrame(), "free");
    clock.now = 50;
    add(bytes("t1", 10));
    expect(queue.expire(50)).to.equal(true);
    expect(names(rest())).to.deep.equal([
      "c",
      "s-t1-1",
      { of: "bytes", task_id: "t1", from: 0, to: 20, reason: "expired" },
      "b-t1-20",
    ]);
  });

  it("[D5] knows whether an older status change waits, that who overtakes it must not forget", () => {
    const { add, log, queue, bytes } = begin();
    add(bytes());
    add(log(100, true));
    expect(queue.holdsLogBefore(99)).to.equal(false);
    const { message } = add(log());
    expect(queue.holdsLogBefore(message.arrival)).to.equal(false);
    expect(queue.holdsLogBefore(message.arrival + 1)).to.equal(true);
    const replay = begin();
    replay.add(replay.log(), "free");
    expect(replay.queue.holdsLogBefore(1)).to.equal(true);
  });
});

interface Incoming {
  message: Waiting;
  tier: Tier;
  reason: Reason;
  /** The older state whose place it takes. */
  merges: Waiting | undefined;
}

type Kind = "high" | "critical" | "state" | "bytes" | "control";

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
type Step = { add: Add } | { shift: number } | { expire: number };

/**
 * The rules, on their own: what waits in which order, what may be dropped when, what has to be told. Each step is done
 * on the queue, and held to them.
 */
class Rules {
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

describe("queue, whatever comes", () => {
  const size = fc.oneof(
    { weight: 5, arbitrary: fc.integer({ min: 1, max: 120 }) },
    { weight: 1, arbitrary: fc.integer({ min: 100, max: 600 }) },
  );
  const kind = fc.oneof(
    ...(
      [
        ["high", 4],
        ["critical", 2],
        ["state", 3],
        ["bytes", 4],
        ["control", 1],
      ] as const
    ).map(([name, weight]) => ({ weight, arbitrary: fc.constant(name as Kind) })),
  );
  const terms = fc.oneof(
    { weight: 6, arbitrary: fc.constant("live" as const) },
    { weight: 1, arbitrary: fc.constantFrom("limited" as const, "free" as const) },
  );
  const add = fc.record({
    kind,
    task: fc.constantFrom("t1", "t2", "t3"),
    size,
    terms,
    reason: fc.oneof(
      { weight: 4, arbitrary: fc.constant("backpressure" as const) },
      { weight: 1, arbitrary: fc.constant("rate_limit" as const) },
    ),
    wait: fc.integer({ min: 0, max: 10 }),
  });
  const step: fc.Arbitrary<Step> = fc.oneof(
    { weight: 8, arbitrary: fc.record({ add }) },
    { weight: 3, arbitrary: fc.record({ shift: fc.integer({ min: 1, max: 6 }) }) },
    { weight: 1, arbitrary: fc.record({ expire: fc.integer({ min: 0, max: 60 }) }) },
  );
  const bounds = fc.record({
    depth: fc.integer({ min: 1, max: 12 }),
    bytes: fc.integer({ min: 50, max: 1500 }),
  });

  it("[D5][D20][D21] order, bounds, who is dropped for whom, and the accounts: exactly as the rules say", () => {
    fc.assert(
      fc.property(bounds, fc.array(step, { minLength: 1, maxLength: 150, size: "max" }), (bounds, steps) => {
        const rules = new Rules(bounds);
        for (const step of steps) rules.take(step);
        rules.finish();
      }),
      { numRuns: 500 },
    );
  });
});
