import { spawn } from "node:child_process";
import { once } from "node:events";
import { fileURLToPath } from "node:url";
import { createEmitter, type Emitter, type EmitterOptions } from "@agentwire/emitter";
import { expect } from "chai";
import { type Cluster, sharedCluster, UNLIMITED } from "../harness/cluster.js";
import { needs } from "../harness/needs.js";
import type { RedisBackend } from "../harness/redis.js";
import { type RedisClusterSetup, startRedisCluster } from "../harness/redis-cluster.js";
import { type SentinelSetup, startSentinels } from "../harness/sentinel.js";
import { onTeardown } from "../harness/teardown.js";
import { someBytes, TerminalWatcher } from "../harness/terminal.js";
import { until } from "../harness/wait.js";

const ENTRY = fileURLToPath(new URL("../../emitter/bin/agentwire.js", import.meta.url));
const change = { agent_id: "a1", project_id: "p1", new_status: "working" as const };
const settings = { ...UNLIMITED, WS_MAX_CONNECTIONS_PER_USER: "2" };

/** What works on one Redis works here too. `borrowed` is an ioredis client as an application has it. */
function doesEverything<R extends RedisBackend>(
  cluster: () => Cluster<R>,
  borrowed: () => NonNullable<EmitterOptions["redis"]>,
): void {
  let users = 0;
  const someone = () => `user-${++users}`;
  const lent = (): Emitter => {
    const emitter = createEmitter({ redis: borrowed() });
    onTeardown(() => emitter.close());
    return emitter;
  };
  const workers: [string, () => Emitter][] = [
    ["an emitter by settings", () => cluster().worker()],
    ["an emitter with a client of the caller", lent],
  ];

  it("[D3] status changes by emitter, HTTP and bus reach both nodes, in one order and one history", async () => {
    const { viewer, worker, post, keys, redis } = cluster();
    const viewers = await Promise.all([1, 2].map((on) => viewer({ on, user: someone() })));
    await Promise.all(viewers.map((one) => one.joined()));
    await worker().agentStatus(change);
    await lent().agentStatus({ ...change, new_status: "stuck" });
    const payload = { new_status: "failed" };
    const answer = await post({
      event_type: "AGENT_STATUS_CHANGED",
      agent_id: "a1",
      project_id: "p1",
      payload,
    });
    expect(answer.status).to.equal(202);
    const message = {
      event_type: "AGENT_STATUS_CHANGED",
      entity_type: "agent",
      entity_id: "a1",
      payload: { project_id: "p1", new_status: "idle" },
    };
    await redis.client().publish(keys.bus("AGENT_STATUS_CHANGED"), JSON.stringify(message));
    for (const one of viewers) {
      await one.sees("four status changes", ({ raw }) => raw.length >= 4);
      const statuses = one.raw.map((event) => [event.payload.old_status, event.payload.new_status]);
      expect(statuses).to.deep.equal([
        [null, "working"],
        ["working", "stuck"],
        ["stuck", "failed"],
        ["failed", "idle"],
      ]);
    }
    const epochs = viewers.map((one) => one.payloads("READY")[0]?.epoch);
    expect(epochs[0]).to.be.a("string").and.to.equal(epochs[1]);
    expect(await redis.client().get(keys.epoch)).to.equal(epochs[0]);
  });

  for (const [title, worker] of workers) {
    it(`[D28] progress of ${title}: live, and at once for who comes in the middle`, async () => {
      const watching = await (await cluster().viewer({ on: 1, user: someone() })).joined();
      const name = `progress-${title.length}`;
      const task = worker().task({ task_id: name, agent_id: "a1", project_id: "p1" });
      const steps = (one: typeof watching) =>
        one.payloads("PROGRESS_UPDATE").filter(({ task_id }) => task_id === name);
      // Who listens is not known yet: what is said before it is said again to who asks.
      task.progress({ current_step: 3, total_steps: 10 });
      await watching.sees("30 %", (one) => steps(one).at(-1)?.progress_percent === 30);
      const newcomer = await (await cluster().viewer({ on: 2, user: someone() })).joined();
      await newcomer.sees("30 %", (one) => steps(one).at(-1)?.progress_percent === 30);
      task.progress({ current_step: 10, total_steps: 10 });
      for (const one of [watching, newcomer])
        await one.sees("100 %", () => steps(one).at(-1)?.progress_percent === 100);
    });

    it(`[D29] a terminal of ${title}: every byte in order, live and to who comes in the middle`, async () => {
      const name = `terminal-${title.length}`;
      const terminal = worker().task({ task_id: name, agent_id: "a1", project_id: "p1" }).terminal();
      const bytes = someBytes(300_000);
      terminal.stdout.write(bytes.subarray(0, 50_000));
      await until("it is known", () => cluster().client().exists(cluster().keys.task(name)));
      const first = await new TerminalWatcher(cluster().node(1).url, name, { user: someone() }).ready();
      for (let at = 50_000; at < 200_000; at += 10_000) {
        const stream = at % 20_000 === 0 ? terminal.stdout : terminal.stderr;
        if (!stream.write(bytes.subarray(at, at + 10_000))) await once(stream, "drain");
      }
      await first.has(200_000, bytes);
      const second = await new TerminalWatcher(cluster().node(2).url, name, { user: someone() }).ready();
      await second.has(200_000, bytes);
      terminal.stdout.write(bytes.subarray(200_000));
      await terminal.end(3);
      for (const one of [first, second]) {
        await one.sees("the end", () => one.payloads("STREAM_END").length > 0);
        expect(one.bytes.equals(bytes)).to.equal(true);
        expect([one.starts, one.dropped]).to.deep.equal([0, []]);
        expect(one.payloads("STREAM_END")[0]).to.include({ exit_code: 3 });
      }
    });
  }

  it("[D14] agentwire run reads the same settings as a node", async () => {
    const watching = await (await cluster().viewer({ user: someone() })).joined();
    const args = ["run", "--agent", "builder", "--project", "p1", "--", "true"];
    const env = { PATH: process.env.PATH, ...cluster().redis.settings };
    const child = spawn(process.execPath, [ENTRY, ...args], { env, stdio: ["ignore", "inherit", "inherit"] });
    expect(await once(child, "exit")).to.deep.equal([0, null]);
    const statuses = () => watching.raw.filter(({ payload }) => payload.agent_id === "builder");
    await watching.sees("both changes", () => statuses().length === 2);
    expect(statuses().map(({ payload }) => payload.new_status)).to.deep.equal(["working", "completed"]);
  });

  it("[D23] a user's limit holds over both nodes", async () => {
    const user = someone();
    for (const on of [1, 2]) await (await cluster().viewer({ on, user })).joined();
    const third = await cluster().viewer({ on: 2, user });
    await until("it is refused", () => third.errors.length > 0);
    expect(third.connects).to.deep.equal([]);
  });
}

/** To come last: it stops the nodes. */
function ends<R extends RedisBackend>(cluster: () => Cluster<R>): void {
  it("[D7] kill -9 of a node: its viewers resume on the other one, recovered and complete", async () => {
    const viewer = await (await cluster().viewer({ on: 1, user: "resuming" })).joined();
    const ids = [(await cluster().worker().agentStatus(change)).sequence_id];
    await viewer.has(ids);
    await cluster().node(1).kill();
    for (let n = 0; n < 20; n++) ids.push((await cluster().worker().agentStatus(change)).sequence_id);
    await viewer.sees("it is back", ({ connects }) => connects.length === 2);
    await viewer.has(ids);
    expect(viewer.connects).to.deep.equal([false, true]);
    expect(viewer.payloads("REPLAY_END").at(-1)).to.include({ complete: true });
  });

  it("[D17] nodes that are stopped leave nothing of themselves, and no command went to the wrong server", async () => {
    await cluster().stopCleanly();
    for (const { log, stderr } of cluster().nodes) {
      expect(stderr).to.equal("");
      expect(JSON.stringify(log)).not.to.match(/CROSSSLOT|MOVED|READONLY|CLUSTERDOWN/);
    }
  });
}

describe("Redis behind Sentinels", () => {
  needs("REDIS");
  const cluster = sharedCluster<SentinelSetup>({ nodes: 2, redis: startSentinels, settings });
  doesEverything(cluster, () => cluster().redis.client());
  ends(cluster);
});

describe("a Redis Cluster", () => {
  needs("REDIS");
  const cluster = sharedCluster<RedisClusterSetup>({ nodes: 2, redis: startRedisCluster, settings });
  doesEverything(cluster, () => cluster().redis.clusterClient());

  it("[D3] a foreign PUBLISH on any of its servers becomes one event", async () => {
    const { viewer, redis, keys } = cluster();
    const watching = await (await viewer({ on: 2, user: "foreign" })).joined();
    for (const [n, server] of redis.servers.entries()) {
      const payload = { project_id: "p1", new_status: "idle" };
      const entity = { entity_type: "agent", entity_id: `foreign-${n}` };
      const message = { event_type: "AGENT_STATUS_CHANGED", ...entity, payload };
      await server.client().publish(keys.bus("AGENT_STATUS_CHANGED"), JSON.stringify(message));
    }
    const foreign = () => watching.raw.filter(({ payload }) => payload.agent_id.startsWith("foreign-"));
    await watching.sees("one of each", () => foreign().length === redis.servers.length);
    expect(new Set(foreign().map(({ payload }) => payload.agent_id)).size).to.equal(redis.servers.length);
  });

  it("[D3] everything that stands in it lies in one slot", async () => {
    const { redis, keys } = cluster();
    const slots = await redis.slots();
    expect([...slots.keys()]).to.include.members([keys.events, keys.head, keys.epoch, keys.agent("a1")]);
    expect(slots.size).to.be.above(10);
    expect(new Set(slots.values()).size).to.equal(1);
  });

  ends(cluster);
});
