import type { Writable } from "node:stream";
import type { Emitter, Task } from "@agentwire/emitter";
import { compareSequence, type SequenceId } from "@agentwire/shared";
import { expect } from "chai";
import { type Cluster, type ClusterOptions, startCluster, UNLIMITED } from "./cluster.js";
import { cpuSecondsOf } from "./processes.js";
import { registryHas } from "./registry.js";
import { watchStalls } from "./stalls.js";
import { onTeardown } from "./teardown.js";
import { someBytes, TerminalWatcher } from "./terminal.js";
import { type Asked, startTraffic } from "./traffic.js";
import type { Viewer } from "./viewer.js";
import { until } from "./wait.js";

/** Each publish and handshake is answered within a second, and what two busy cores make of it. */
const ANSWERED_MS = 2500;
/** Of one node, for an outage of seconds. */
const MOST_WARNINGS = 30;
/** Of one core. */
const MOST_CPU = 0.5;

export interface OutageOptions {
  /** Takes Redis away. */
  fail(): unknown;
  heal(): unknown;
  /** What workers and services are told, apart from a line that is not there. */
  says?: RegExp;
  /** How many publishes of services are refused before it is healed; 20 are tried in a second. */
  refusals?: number;
  /** It comes back before anybody can be sure to have seen that it was away. */
  brief?: boolean;
  /** Workers publish all the while. */
  workersReach?: boolean;
  /** The history is another one afterwards. */
  historyLost?: boolean;
  /** A replica has become the primary: what it has is as it was, and that it is all of it is not claimed. */
  promoted?: boolean;
}

/**
 * A cluster under load, with viewers on each node, a task and its terminal: {@link Scene.endure} takes Redis away from
 * it and gives it back, and checks what holds in every outage.
 */
export class Scene {
  readonly #stalls = watchStalls();
  readonly #bytes = someBytes(4_000_000);
  #written = 0;
  #step = 0;

  static async open({
    workersUse,
    ...options
  }: Partial<ClusterOptions> & { workersUse?: string } = {}): Promise<Scene> {
    // With the limits as they come its statuses alone would take all of a connection's messages, before its progress.
    const settings = { ...UNLIMITED, ...options.settings };
    const cluster = await startCluster({ nodes: 2, ...options, settings });
    const viewers = await Promise.all(
      cluster.nodes.map((_, n) => cluster.viewer({ on: n + 1, user: `user-${n}` })),
    );
    await Promise.all(viewers.map((viewer) => viewer.joined()));
    const worker = cluster.worker(workersUse);
    const task = worker.task({ task_id: "t1", agent_id: "a1", project_id: "p1" });
    const output = task.terminal().stdout;
    await until("the task is known", () => cluster.client().get(cluster.keys.task("t1")));
    const terminal = new TerminalWatcher(cluster.node(1).url, "t1", { user: "user-terminal" });
    await terminal.ready();
    const scene = new Scene(cluster, viewers, worker, task, output, terminal);
    await scene.flows();
    return scene;
  }

  readonly traffic;

  private constructor(
    readonly cluster: Cluster,
    readonly viewers: Viewer[],
    readonly worker: Emitter,
    task: Task,
    output: Writable,
    readonly terminal: TerminalWatcher,
  ) {
    const timer = setInterval(() => {
      task.progress({ current_step: ++this.#step, total_steps: 1_000_000 });
      const end = this.#written + 500;
      output.write(this.#bytes.subarray(this.#written, end));
      this.#written = end;
    }, 25);
    onTeardown(() => clearInterval(timer));
    this.traffic = startTraffic(cluster, this.worker);
  }

  /** Each viewer gets something more of all kinds. */
  async flows(): Promise<void> {
    for (const viewer of this.viewers) {
      const seen = viewer.raw.length;
      const step = this.#step;
      await viewer.sees("events flow", () => viewer.raw.length > seen + 50);
      await viewer.sees(
        "progress flows",
        () => (viewer.payloads("PROGRESS_UPDATE").at(-1)?.current_step ?? 0) > step,
      );
    }
    const written = this.#written;
    await this.terminal.sees("bytes flow", () => this.terminal.account(this.#bytes) > written);
  }

  async endure({
    fail,
    heal,
    says = /./,
    refusals = 50,
    brief = false,
    workersReach = false,
    historyLost = false,
    promoted = false,
  }: OutageOptions): Promise<Asked[]> {
    const { cluster, traffic, viewers } = this;
    const { nodes } = cluster;
    const from = traffic.all.length;
    const logged = nodes.map(({ log }) => log.length);
    const told = viewers.map((viewer) => viewer.payloads("ERROR").length);
    this.#stalls.reset();
    const refused = (way: Asked["way"]) =>
      traffic.all.slice(from).filter((one) => one.outcome !== "ok" && one.way === way);

    await fail();
    for (const node of brief ? [] : nodes)
      await until("the node is not ready", async () => (await node.readyz()) === 503);
    for (const [n, viewer] of viewers.entries())
      await viewer.sees("it is told", () =>
        viewer
          .payloads("ERROR")
          .slice(told[n])
          .some(({ code }) => code === "DEGRADED"),
      );
    const cpu = nodes.map(({ pid }) => cpuSecondsOf(pid));
    const began = performance.now();
    const ways = workersReach ? (["http"] as const) : (["http", "emitter"] as const);
    if (!brief) {
      await until("services are refused for a while", () => refused("http").length >= refusals);
      for (const way of ways) await until(`so is ${way}`, () => refused(way).length > 0);
      await until("so are handshakes", () => refused("handshake").length > 2);
    }
    const seconds = (performance.now() - began) / 1000;
    for (const [n, { pid }] of nodes.entries()) {
      const used = (cpuSecondsOf(pid) ?? 0) - (cpu[n] ?? 0);
      if (!brief) expect(used / seconds, `CPU of node ${n + 1}`).to.be.below(MOST_CPU);
    }
    await heal();
    for (const node of nodes)
      await until("the node is ready again", async () => (await node.readyz()) === 200);
    await this.flows();
    await traffic.stop();

    const asked = traffic.all.slice(from);
    expect(refused("emitter").length === 0 || !workersReach, "workers were not held up").to.equal(true);
    for (const { way, outcome, status, message, ms } of asked) {
      expect(ms, `${way}: ${outcome} ${message}`).to.be.below(ANSWERED_MS + this.#stalls.longest());
      if (outcome === "ok") continue;
      expect(outcome, message).to.equal("UNAVAILABLE");
      if (way !== "emitter") expect(status).to.equal(503);
    }
    for (const way of brief ? [] : ways)
      expect(
        refused(way).some(({ message }) => says.test(message)),
        `${way} is told why: ${refused(way)[0]?.message}`,
      ).to.equal(true);
    for (const [n, { id, alive, stderr, log }] of nodes.entries()) {
      expect(alive, id).to.equal(true);
      expect(stderr, id).to.equal("");
      const warnings = log.slice(logged[n]).filter(({ level }) => Number(level) >= 40);
      expect(warnings.length, warnings.map(({ msg, err }) => `${msg}: ${err}`).join("\n")).to.be.below(
        MOST_WARNINGS,
      );
      expect(warnings.filter(({ msg }) => msg === "redis is away").length).to.be.greaterThan(0);
    }
    await this.#nothingIsMissing(asked, historyLost, promoted);
    await registryHas(cluster, () => viewers.map(({ connectionId }) => connectionId), 1);
    return asked;
  }

  /** What was confirmed is with everybody, once; what was refused may be repeated, and then is there once, too. */
  async #nothingIsMissing(asked: Asked[], historyLost: boolean, promoted: boolean): Promise<void> {
    const { viewers, traffic, worker } = this;
    const refused = asked.filter(({ way, outcome }) => way === "emitter" && outcome !== "ok").slice(0, 50);
    for (const { event_id } of refused) {
      const before = viewers[0]?.raw.find((event) => event.event_id === event_id);
      const change = { agent_id: "emitter-1", project_id: "p1", new_status: "working" as const };
      const { sequence_id, duplicate } = await worker.agentStatus({ ...change, event_id });
      // Redis took it later than its caller waited.
      if (before)
        expect({ sequence_id, duplicate }).to.deep.equal({
          sequence_id: before.sequence_id,
          duplicate: true,
        });
      traffic.confirmed.set(event_id, sequence_id);
    }
    const confirmed = [...traffic.confirmed.values()];
    for (const viewer of viewers) {
      if (!historyLost) await viewer.has(confirmed);
      const ids = new Map<string, SequenceId>();
      for (const { event_id, sequence_id } of viewer.raw) {
        expect(ids.get(event_id) ?? sequence_id, `one event under two ids`).to.equal(sequence_id);
        ids.set(event_id, sequence_id);
      }
      expect(viewer.raw.length, "what came twice").to.equal(ids.size);
      const order = viewer.raw.map(({ sequence_id }) => sequence_id);
      if (!historyLost) expect(order).to.deep.equal([...order].sort(compareSequence));
      expect(viewer.connects, viewer.reasons.join()).to.deep.equal([false]);
      const ends = viewer.payloads("REPLAY_END");
      if (promoted) expect(ends.some(({ reason }) => reason === "history_lost")).to.equal(true);
      else if (!historyLost) expect(ends.every(({ complete }) => complete)).to.equal(true);
    }
    expect(this.terminal.reasons).to.deep.equal([]);
  }
}
