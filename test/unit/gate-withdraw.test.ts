// Long: a queue, an outbox, and a whole connection are each held to the same rule by whatever may come.
import {
  AGENTS_NAMESPACE,
  type Envelope,
  events,
  filterable,
  type PayloadOf,
  type SequenceId,
  stamp,
} from "@agentwire/shared";
import { expect } from "chai";
import fc from "fast-check";
import type { Socket } from "socket.io";
import { createCounters } from "../../server/src/gate/counters.js";
import { Frame } from "../../server/src/gate/frame.js";
import { Exit } from "../../server/src/gate/gate.js";
import { Loss } from "../../server/src/gate/loss.js";
import { Outbox } from "../../server/src/gate/outbox.js";
import { Queue, type Waiting } from "../../server/src/gate/queue.js";
import { Connection } from "../../server/src/node/connection.js";
import { Hub } from "../../server/src/node/hub.js";
import { createJoin, type JoinSources } from "../../server/src/node/join.js";
import {
  controlFrame,
  FakeLine,
  FakeShare,
  HandClock,
  noticeIn,
  numberOf,
  sequenceId,
  sizeOf,
  weigh,
} from "../harness/gate.js";

const PROJECTS = ["p1", "p2", "p3"] as const;
type Project = (typeof PROJECTS)[number];
const project = fc.constantFrom(...PROJECTS);
const projects = fc.uniqueArray(project);

const statusOf = (n: number, project_id: Project, urgent: boolean): Envelope => {
  const new_status = urgent ? ("failed" as const) : ("working" as const);
  const payload = { agent_id: `a-${project_id}`, project_id, old_status: null, new_status };
  return { ...stamp("AGENT_STATUS_CHANGED", `e-${n}`, payload), sequence_id: sequenceId(n) };
};

const progressOf = (n: number, project_id: Project, task_id: string): Envelope =>
  stamp("PROGRESS_UPDATE", `s-${task_id}-${n}`, {
    task_id,
    agent_id: "a1",
    project_id,
    current_step: n,
    total_steps: null,
    progress_percent: 0,
    message: "",
    estimated_seconds_remaining: null,
    batched_updates: 1,
  });

const projectOf = ({ about }: Frame) => about.project_id as Project;
const nameOf = ({ envelope }: Frame) => envelope.event_id;

/** What is offered to a queue or an outbox. */
const offer = fc.record({
  kind: fc.constantFrom("high" as const, "critical" as const, "state" as const, "control" as const),
  project,
  task: fc.constantFrom("t1", "t2", "t3"),
  size: fc.integer({ min: 1, max: 120 }),
  terms: fc.oneof(
    { weight: 5, arbitrary: fc.constant("live" as const) },
    { weight: 1, arbitrary: fc.constantFrom("limited" as const, "free" as const) },
  ),
});
type Offer = typeof offer extends fc.Arbitrary<infer T> ? T : never;

function frameOf({ kind, project, task, size }: Offer, n: number): Frame {
  if (kind === "control") return controlFrame(size);
  const envelope =
    kind === "state"
      ? progressOf(n, project, `${project}-${task}`)
      : statusOf(n, project, kind === "critical");
  return weigh(new Frame(AGENTS_NAMESPACE, envelope), size);
}

describe("what may not be sent any more, in a queue", () => {
  const rest = (queue: Queue) => {
    const all: (Waiting | Loss)[] = [];
    for (let next = queue.shift(); next; next = queue.shift()) all.push(next);
    return all;
  };
  const names = (entries: (Waiting | Loss)[]) =>
    entries.map((one) => (one instanceof Loss ? JSON.stringify(noticeIn(one.notice())) : nameOf(one.frame)));

  it("[D25] the rest keeps its order, and so do notices and what the server says; depth and bytes are right", () => {
    const bounds = fc.record({
      depth: fc.integer({ min: 1, max: 12 }),
      bytes: fc.integer({ min: 50, max: 1500 }),
    });
    const some = fc.array(offer, { maxLength: 40, size: "max" });
    fc.assert(
      fc.property(bounds, some, some, projects, (bounds, before, after, allowed) => {
        let dropped = 0;
        const fill = () => {
          const queue = new Queue(bounds, () => dropped++);
          before.forEach((one, n) => {
            queue.add(waiting(one, n), "backpressure");
          });
          return queue;
        };
        const waiting = (one: Offer, n: number): Waiting => {
          const frame = frameOf(one, n + 1);
          const terms = one.kind === "control" ? ("free" as const) : one.terms;
          return { frame, terms, arrival: n, ordered: true, bytes: sizeOf(frame), since: 0 };
        };
        const may = (frame: Frame) => frame.delivery === "control" || allowed.includes(projectOf(frame));
        const isLeft = (one: Waiting | Loss) => one instanceof Loss || may(one.frame);
        const expected = rest(fill()).filter(isLeft);

        const queue = fill();
        dropped = 0;
        const asked: Frame[] = [];
        queue.keep((frame) => {
          asked.push(frame);
          return may(frame);
        });
        expect(dropped, "nobody is told").to.equal(0);
        expect(asked.some(({ delivery }) => delivery === "control")).to.equal(false);
        const messages = expected.filter((one): one is Waiting => !(one instanceof Loss));
        expect(queue.empty).to.equal(expected.length === 0);
        expect(queue.bytes).to.equal(messages.reduce((sum, { bytes }) => sum + bytes, 0));
        expect(queue.depth).to.equal(messages.filter(({ terms }) => terms === "live").length);
        expect(queue.said).to.equal(messages.filter(({ frame }) => frame.delivery === "control").length);
        const log = messages.filter(
          (one) => one.frame.delivery === "log" && (one.terms !== "live" || !one.frame.urgent),
        );
        const first = Math.min(...log.map(({ arrival }) => arrival));
        expect(queue.holdsLogBefore(first)).to.equal(false);
        expect(queue.holdsLogBefore(first + 1)).to.equal(log.length > 0);
        expect(queue.holdsBefore(Number.POSITIVE_INFINITY)).to.equal(messages.length > 0);

        // It goes on as a queue that never held what is gone.
        const kept = fill();
        kept.keep(may);
        after.forEach((one, n) => {
          kept.add(waiting(one, before.length + n), "rate_limit");
        });
        kept.keep(() => true);
        expect(names(rest(queue))).to.deep.equal(names(expected));
        const left = rest(kept);
        expect([kept.empty, kept.bytes, kept.depth, kept.said]).to.deep.equal([true, 0, 0, 0]);
        expect(
          left.filter(isLeft).length + after.filter((one) => one.kind !== "control").length,
        ).to.be.at.least(left.length);
      }),
      { numRuns: 400 },
    );
  });
});

/** An outbox between a line, a share and a clock that are moved by hand. */
class Desk {
  readonly clock = new HandClock();
  readonly line = new FakeLine(() => this.clock.now);
  readonly share = new FakeShare();
  readonly outbox: Outbox;

  constructor(
    perSecond: number,
    room = Number.POSITIVE_INFINITY,
    bounds = { depth: 1000, bytes: 1_000_000 },
  ) {
    const { clock, share } = this;
    share.room = room;
    const limits = { bounds, perSecond, ttlMs: 60_000, share, now: () => clock.now };
    this.outbox = new Outbox(this.line, limits, createCounters(), true);
    this.line.onReady = () => this.outbox.flush();
  }
}

type Step =
  | { offer: Offer }
  | { ready: true }
  | { block: true }
  | { wait: number }
  | { grant: number }
  | { drain: true }
  | { allow: Project[] };

const step: fc.Arbitrary<Step> = fc.oneof(
  { weight: 10, arbitrary: fc.record({ offer }) },
  { weight: 4, arbitrary: fc.constant({ ready: true } as const) },
  { weight: 1, arbitrary: fc.constant({ block: true } as const) },
  { weight: 2, arbitrary: fc.record({ wait: fc.integer({ min: 1, max: 1500 }) }) },
  { weight: 1, arbitrary: fc.record({ grant: fc.integer({ min: 1, max: 3 }) }) },
  { weight: 2, arbitrary: fc.constant({ drain: true } as const) },
  { weight: 2, arbitrary: fc.record({ allow: projects }) },
);

describe("what may not be sent any more, in an outbox", () => {
  it("[D25] never leaves, also when the right is there again; all else does, once, and its offsets skip nothing", async () => {
    const settings = fc.record({
      perSecond: fc.integer({ min: 0, max: 4 }),
      room: fc.constantFrom(0, 3, Number.POSITIVE_INFINITY),
    });
    await fc.assert(
      fc.asyncProperty(
        settings,
        fc.array(step, { maxLength: 80, size: "max" }),
        async ({ perSecond, room }, steps) => {
          const { clock, line, share, outbox } = new Desk(perSecond, room);
          const giveBack = clock.takeOver();
          try {
            const due = new Set<Frame>();
            const drains: { before: Frame[]; done: boolean; promise: Promise<void> }[] = [];
            let offered = 0;
            line.onWrite = ({ frame, offset }) => {
              expect(due.delete(frame), `${nameOf(frame)} is due`).to.equal(true);
              if (!offset) return;
              const place = numberOf(frame.envelope.sequence_id as SequenceId);
              const skipped = [...due].filter(
                ({ delivery, envelope }) =>
                  delivery === "log" && numberOf(envelope.sequence_id as SequenceId) < place,
              );
              // What leaves in the same write comes in its place.
              expect(skipped.map(nameOf), `before the offset of ${nameOf(frame)}`).to.deep.equal([]);
            };
            const take = (step: Step) => {
              if ("offer" in step) {
                const { kind, terms } = step.offer;
                const frame = frameOf(step.offer, ++offered);
                if (kind === "state" && [...due].some((one) => one.delivery === "state")) return; // It would merge.
                due.add(frame);
                const before = kind === "high" || kind === "critical" ? sequenceId(offered - 1) : undefined;
                outbox.send(frame, kind === "control" ? "free" : terms, before);
              } else if ("ready" in step) line.ready();
              else if ("block" in step) line.block();
              else if ("wait" in step) clock.move(step.wait);
              else if ("grant" in step) share.grant(step.grant);
              else if ("drain" in step) {
                const one = { before: [...due], done: false, promise: outbox.drained() };
                void one.promise.then(() => {
                  one.done = true;
                });
                drains.push(one);
              } else {
                const may = (frame: Frame) =>
                  frame.delivery === "control" || step.allow.includes(projectOf(frame));
                for (const frame of due) if (!may(frame)) due.delete(frame);
                outbox.withdraw(may);
              }
            };
            const breath = async () => {
              for (let n = 0; n < 4; n++) await null;
              for (const { before, done } of drains)
                if (done)
                  expect(before.filter((frame) => due.has(frame)).map(nameOf), "drained").to.deep.equal([]);
            };
            for (const step of steps) {
              take(step);
              await breath();
            }
            share.grant(Number.POSITIVE_INFINITY);
            for (let n = 0; n < 2 * offered + 5; n++) {
              line.ready();
              clock.move(1000);
            }
            line.ready();
            await breath();
            expect([...due].map(nameOf)).to.deep.equal([]);
            expect(outbox.bytes).to.equal(0);
            expect(
              drains.every(({ done }) => done),
              "all are drained",
            ).to.equal(true);
          } finally {
            giveBack();
          }
        },
      ),
      { numRuns: 400 },
    );
  });

  it("[D25] who waited for the rest to leave goes on when there is no rest, also while the line is slow", async () => {
    const { clock, line, outbox } = new Desk(1);
    const giveBack = clock.takeOver();
    try {
      for (const n of [1, 2])
        outbox.send(new Frame(AGENTS_NAMESPACE, statusOf(n, "p2", false)), "live", sequenceId(n - 1));
      line.ready();
      let drained = false;
      void outbox.drained().then(() => {
        drained = true;
      });
      outbox.withdraw(() => false);
      await null;
      expect(drained).to.equal(true);

      outbox.send(new Frame(AGENTS_NAMESPACE, statusOf(3, "p2", false)), "live", sequenceId(2));
      line.block();
      drained = false;
      void outbox.drained().then(() => {
        drained = true;
      });
      outbox.withdraw(() => false);
      await null;
      expect(drained).to.equal(false);
      line.ready();
      await null;
      expect(drained).to.equal(true);
      expect(line.written.map(({ frame }) => nameOf(frame))).to.deep.equal(["e-1"]);
    } finally {
      giveBack();
    }
  });

  it("[D25] what waits for another namespace of the connection stays", () => {
    const { line, outbox } = new Desk(0);
    const socket = (name: string) => ({ connected: true, nsp: { name } }) as unknown as Socket;
    const ours = new Exit(socket(AGENTS_NAMESPACE), outbox, createCounters());
    line.block();
    outbox.send(new Frame(AGENTS_NAMESPACE, statusOf(1, "p1", false)), "live", sequenceId(0));
    outbox.send(new Frame("/ws/other", statusOf(2, "p1", false)), "live", sequenceId(1));
    ours.withdraw(() => false);
    line.ready();
    expect(line.written.map(({ frame }) => nameOf(frame))).to.deep.equal(["e-2"]);
  });

  it("[D21][D25] what was dropped before, of whatever project, is announced all the same", () => {
    const { line, outbox } = new Desk(0, Number.POSITIVE_INFINITY, { depth: 2, bytes: 10_000 });
    line.block();
    for (const [n, task] of ["t1", "t2", "t3"].entries())
      outbox.send(new Frame(AGENTS_NAMESPACE, progressOf(n, "p2", task)), "live");
    outbox.withdraw(() => false);
    line.ready();
    expect(line.written.map(({ frame }) => noticeIn(frame))).to.deep.equal([
      { of: "messages", event_type: "PROGRESS_UPDATE", count: 1, reason: "backpressure" },
    ]);
  });
});

type NodeStep =
  | { publish: { project: Project; urgent: boolean } }
  | { hear: number }
  | { lose: true }
  | { answer: number }
  | { ready: true }
  | { block: true }
  | { wait: number }
  | { rights: Project[] };

/** A node with one viewer whose rights change, from its log in memory to what the viewer gets. */
class Node {
  readonly clock = new HandClock();
  readonly broken: string[] = [];
  readonly #log: Envelope[] = [];
  readonly #asked: (() => void)[] = [];
  readonly #connection: Connection;
  readonly #hub: Hub;
  readonly #line = new FakeLine(() => this.clock.now);
  #read = 0;
  #rights = new Set<Project>(PROJECTS);
  /** By project: how many events there were when the right to it came last. */
  readonly #since = new Map<Project, number>(PROJECTS.map((one) => [one, 0]));
  readonly #got = new Set<number>();
  #lastOffset = 0;

  constructor({ depth, perSecond }: { depth: number; perSecond: number }) {
    const limits = {
      bounds: { depth, bytes: 100_000 },
      perSecond,
      ttlMs: 1000,
      share: new FakeShare(),
      now: () => this.clock.now,
    };
    const outbox = new Outbox(this.#line, limits, createCounters(), true);
    this.#line.onReady = () => outbox.flush();
    this.#line.onWrite = ({ frame, offset }) => this.#judge(frame, offset);
    const socket = { connected: true, nsp: { name: AGENTS_NAMESPACE } } as unknown as Socket;
    const exit = new Exit(socket, outbox, createCounters());
    const say = exit.say.bind(exit);
    exit.say = (event_type, payload) => {
      if (event_type === "SNAPSHOT")
        for (const { project_id } of (payload as PayloadOf<"SNAPSHOT">).agents)
          this.#mayShow(project_id, "snapshot");
      say(event_type, payload);
    };
    const none = { agent_ids: [], project_ids: [], event_types: [] };
    this.#connection = new Connection("c1", "anna", this.#rights, none, "now", "0-0", exit);
    const outgoing = (envelope: Envelope) => new Frame(AGENTS_NAMESPACE, envelope);
    const join = createJoin({
      ended: () => {},
      sources: this.#sources(),
      outgoing,
      joined: () => {},
      handledUpTo: () => this.#hub.last,
      failed: (_, error) => this.broken.push(String(error)),
    });
    const progress = { watch() {}, unwatch() {}, ended() {} };
    this.#hub = new Hub({ outgoing, join, onArrival: () => {}, onRefill: () => {}, progress });
    this.#hub.continuity.epoch = "now";
    this.#hub.add(this.#connection, { name: "first" });
  }

  async take(step: NodeStep): Promise<void> {
    if ("publish" in step) {
      const { project, urgent } = step.publish;
      this.#log.push(statusOf(this.#log.length + 1, project, urgent));
    } else if ("hear" in step) this.#hear(step.hear);
    else if ("lose" in step) this.#read = Math.min(this.#log.length, this.#read + 1);
    else if ("answer" in step) for (let n = 0; n < step.answer; n++) await this.#answer();
    else if ("ready" in step) this.#line.ready();
    else if ("block" in step) this.#line.block();
    else if ("wait" in step) this.clock.move(step.wait);
    else this.#give(new Set(step.rights));
    await breath();
  }

  async settle(): Promise<void> {
    await this.take({ hear: this.#log.length });
    if (this.#hub.last !== sequenceId(this.#log.length))
      this.#hub.level("behind", sequenceId(this.#log.length), "now");
    for (
      let n = 0;
      n < 300 && !(n > 20 && this.#connection.live && this.#connection.exit.waiting === 0);
      n++
    ) {
      await this.take({ answer: 4 });
      await this.take({ ready: true });
      await this.take({ wait: 500 });
    }
    if (!this.#connection.live) this.broken.push("it does not come to rest");
    for (const [at, envelope] of this.#log.entries()) {
      const { project_id } = envelope.payload as { project_id: Project };
      const had = this.#rights.has(project_id) && at >= (this.#since.get(project_id) ?? 0);
      if (had && !this.#got.has(at + 1)) this.broken.push(`${at + 1} of ${project_id} never came`);
    }
  }

  #give(rights: Set<Project>): void {
    for (const one of rights) if (!this.#rights.has(one)) this.#since.set(one, this.#log.length);
    this.#rights = rights;
    this.#hub.renewRights(this.#connection, rights);
  }

  #mayShow(project_id: string, what: string): void {
    if (!this.#rights.has(project_id as Project))
      this.broken.push(`${what} of ${project_id} without the right`);
  }

  #judge(frame: Frame, offset: boolean): void {
    if (frame.delivery !== "log") return;
    const n = numberOf(frame.envelope.sequence_id as SequenceId);
    this.#mayShow(projectOf(frame), `event ${n}`);
    this.#got.add(n);
    if (!offset) return;
    if (n <= this.#lastOffset) this.broken.push(`offset ${n} came after ${this.#lastOffset}`);
    this.#lastOffset = n;
    for (let before = 1; before < n; before++) {
      const { project_id } = (this.#log[before - 1] as Envelope).payload as { project_id: Project };
      const had = this.#rights.has(project_id) && before > (this.#since.get(project_id) ?? 0);
      if (had && !this.#got.has(before)) this.broken.push(`offset ${n} came before ${before}`);
    }
  }

  #hear(count: number): void {
    for (let n = 0; n < count; n++) {
      const envelope = this.#log[this.#read];
      if (!envelope) return;
      const prev = sequenceId(this.#read++);
      const rooms = events.AGENT_STATUS_CHANGED.rooms(envelope.payload as PayloadOf<"AGENT_STATUS_CHANGED">);
      this.#hub.entry({ id: sequenceId(this.#read), prev, epoch: "now", rooms, envelope });
    }
  }

  async #answer(): Promise<void> {
    this.#asked.shift()?.();
    await breath();
  }

  #sources(): JoinSources {
    const letGo = () => new Promise<void>((resolve) => this.#asked.push(resolve));
    const ask = async <T>(read: () => T): Promise<T> => {
      await letGo();
      const found = read();
      await letGo();
      return found;
    };
    const after = (position: SequenceId, projects: ReadonlySet<string>) =>
      this.#log
        .slice(numberOf(position))
        .map((one) => ({ ...filterable(one), id: one.sequence_id as SequenceId }))
        .filter(({ project_id }) => projects.has(project_id));
    const head = () => sequenceId(this.#log.length);
    return {
      missedBy: (_user, projects, position) =>
        ask(() => ({ epoch: "now", missed: after(position, projects), to: head() })),
      missedNext: (_user, projects, position) =>
        ask(() => {
          const all = after(position, projects);
          const some = all.slice(0, 3);
          const more = all.length > 3;
          return { epoch: "now", missed: some, to: more ? (some.at(-1)?.id ?? position) : head(), more };
        }),
      read: (ids) => ask(() => ids.map((id) => ({ envelope: this.#log[numberOf(id) - 1] as Envelope }))),
      agents: () => ask(() => []),
      agentsOfProjects: (ids) =>
        ask(() =>
          ids.map((project_id) => ({
            agent_id: `a-${project_id}`,
            project_id,
            status: "working" as const,
            sequence_id: "0-0",
            timestamp: "",
          })),
        ),
    };
  }
}

/** Promises that can go on do so. */
const breath = () => new Promise<void>((resolve) => setImmediate(resolve));

describe("rights that change, whatever the connection does at that moment", () => {
  const nodeStep: fc.Arbitrary<NodeStep> = fc.oneof(
    { weight: 10, arbitrary: fc.record({ publish: fc.record({ project, urgent: fc.boolean() }) }) },
    { weight: 10, arbitrary: fc.record({ hear: fc.integer({ min: 1, max: 3 }) }) },
    { weight: 1, arbitrary: fc.constant({ lose: true } as const) },
    { weight: 8, arbitrary: fc.record({ answer: fc.integer({ min: 1, max: 3 }) }) },
    { weight: 5, arbitrary: fc.constant({ ready: true } as const) },
    { weight: 1, arbitrary: fc.constant({ block: true } as const) },
    { weight: 2, arbitrary: fc.record({ wait: fc.integer({ min: 1, max: 1500 }) }) },
    { weight: 3, arbitrary: fc.record({ rights: projects }) },
  );

  it("[D25] nothing of a project leaves without the right to it; what the right was there for all comes", async () => {
    const settings = fc.record({
      depth: fc.integer({ min: 1, max: 6 }),
      perSecond: fc.constantFrom(0, 2, 5),
    });
    await fc.assert(
      fc.asyncProperty(
        settings,
        fc.array(nodeStep, { maxLength: 100, size: "max" }),
        async (settings, steps) => {
          const node = new Node(settings);
          const giveBack = node.clock.takeOver();
          try {
            for (const step of steps) await node.take(step);
            await node.settle();
          } finally {
            giveBack();
          }
          expect(node.broken.join("; ")).to.equal("");
        },
      ),
      { numRuns: 400 },
    );
  });

  it("[D25] a connection leaves the rooms of what it lost: once it is gone nothing holds it", async () => {
    const heard: string[] = [];
    class Listening extends Connection {
      override hear(...about: Parameters<Connection["hear"]>): void {
        heard.push(about[0].envelope.event_id);
        super.hear(...about);
      }
    }
    const socket = { connected: true, nsp: { name: AGENTS_NAMESPACE } } as unknown as Socket;
    const exit = new Exit(socket, new Desk(0).outbox, createCounters());
    const none = { agent_ids: [], project_ids: [], event_types: [] };
    const connection = new Listening("c1", "anna", new Set(["p1", "p2"]), none, "now", "0-0", exit);
    const outgoing = (envelope: Envelope) => new Frame(AGENTS_NAMESPACE, envelope);
    const hub = new Hub({
      outgoing,
      join: async () => {},
      onArrival: () => {},
      onRefill: () => {},
      progress: { watch() {}, unwatch() {}, ended() {} },
    });
    hub.continuity.epoch = "now";
    hub.add(connection, { name: "first" });
    let n = 0;
    const publish = (project: Project) => {
      const envelope = statusOf(++n, project, false);
      const rooms = events.AGENT_STATUS_CHANGED.rooms(envelope.payload as PayloadOf<"AGENT_STATUS_CHANGED">);
      hub.entry({ id: sequenceId(n), prev: sequenceId(n - 1), epoch: "now", rooms, envelope });
    };
    hub.renewRights(connection, new Set(["p1", "p3"]));
    for (const one of PROJECTS) publish(one);
    expect(heard).to.deep.equal(["e-1", "e-3"]);
    hub.remove(connection.id);
    hub.renewRights(connection, new Set(PROJECTS));
    for (const one of PROJECTS) publish(one);
    expect(heard).to.deep.equal(["e-1", "e-3"]);
  });
});
