import { AGENTS_NAMESPACE, type Envelope, type PayloadOf, type SequenceId } from "@agentwire/shared";
import { expect } from "chai";
import fc from "fast-check";
import { createCounters } from "../../server/src/gate/counters.js";
import { Frame } from "../../server/src/gate/frame.js";
import { Exit } from "../../server/src/gate/gate.js";
import { Connection } from "../../server/src/node/connection.js";
import { Hub } from "../../server/src/node/hub.js";
import { type HandClock, numberOf, sequenceId } from "../harness/gate.js";
import { breath, HubRig, roomsOf, socketOf } from "../harness/hub-rig.js";
import { Desk } from "../harness/outbox-rig.js";
import { PROJECTS, type Project, project, projectOf, projects, statusOf } from "../harness/project-frames.js";

const noFilters = { agent_ids: [], project_ids: [], event_types: [] };

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
  readonly broken: string[] = [];
  readonly #log: Envelope[] = [];
  readonly #connection: Connection;
  readonly #desk: Desk;
  readonly #rig: HubRig;
  #rights = new Set<Project>(PROJECTS);
  /** By project: how many events there were when the right to it came last. */
  readonly #since = new Map<Project, number>(PROJECTS.map((one) => [one, 0]));
  readonly #got = new Set<number>();
  #lastOffset = 0;

  constructor({ depth, perSecond }: { depth: number; perSecond: number }) {
    this.#desk = new Desk({ depth, bytes: 100_000, perSecond, ttlMs: 1000 });
    this.#desk.line.onWrite = ({ frame, offset }) => this.#judge(frame, offset);
    const exit = new Exit(socketOf(), this.#desk.outbox, createCounters());
    const say = exit.say.bind(exit);
    exit.say = (event_type, payload) => {
      if (event_type === "SNAPSHOT")
        for (const { project_id } of (payload as PayloadOf<"SNAPSHOT">).agents)
          this.#mayShow(project_id, "snapshot");
      say(event_type, payload);
    };
    this.#connection = new Connection("c1", "anna", this.#rights, noFilters, "now", "0-0", exit);
    this.#rig = new HubRig({
      log: this.#log,
      stretch: 3,
      outgoing: (envelope) => new Frame(AGENTS_NAMESPACE, envelope),
      failed: (error) => this.broken.push(String(error)),
      agentsOfProjects: (ids) =>
        ids.map((project_id) => ({
          agent_id: `a-${project_id}`,
          project_id,
          status: "working" as const,
          sequence_id: "0-0",
          timestamp: "",
        })),
    });
    this.#rig.hub.add(this.#connection, { name: "first" });
  }

  get clock(): HandClock {
    return this.#desk.clock;
  }

  async take(step: NodeStep): Promise<void> {
    if ("publish" in step) {
      const { project, urgent } = step.publish;
      this.#log.push(statusOf(this.#log.length + 1, project, urgent));
    } else if ("hear" in step) this.#rig.hear(step.hear);
    else if ("lose" in step) this.#rig.lose(1);
    else if ("answer" in step) await this.#rig.answer(step.answer);
    else if ("ready" in step) this.#desk.line.ready();
    else if ("block" in step) this.#desk.line.block();
    else if ("wait" in step) this.clock.move(step.wait);
    else this.#give(new Set(step.rights));
    await breath();
  }

  async settle(): Promise<void> {
    await this.take({ hear: this.#log.length });
    this.#rig.look();
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
    this.#rig.hub.renewRights(this.#connection, rights);
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
}

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
    const exit = new Exit(socketOf(), new Desk().outbox, createCounters());
    const connection = new Listening("c1", "anna", new Set(["p1", "p2"]), noFilters, "now", "0-0", exit);
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
      hub.entry({
        id: sequenceId(n),
        prev: sequenceId(n - 1),
        epoch: "now",
        rooms: roomsOf(envelope),
        envelope,
      });
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
