import { SEQUENCE_START } from "@agentwire/shared";
import { expect } from "chai";
import { createRandom } from "../fuzz/random.js";
import { type Cluster, startCluster, UNLIMITED } from "../harness/cluster.js";
import { needs } from "../harness/needs.js";
import { startPostgres } from "../harness/postgres.js";
import { Matrix, type Tenant, tenant } from "../harness/tenants.js";
import type { Viewer } from "../harness/viewer.js";
import { until } from "../harness/wait.js";

const TENANTS = ["t1", "t2", "t3", "t4", "t5"].map(tenant);
const SETTINGS = { ...UNLIMITED, WS_SUBSCRIPTION_UPDATES_PER_SECOND: "0" };
const pairs = TENANTS.flatMap((who) => TENANTS.filter((one) => one !== who).map((other) => ({ who, other })));

/** One operation of one tenant on another one's ids, `times` over. While something restarts, it may be refused for that. */
type Operation = (matrix: Matrix, who: Tenant, other: Tenant, times: number) => Promise<void>;

/** Has what follows READY, or was refused, or lost its connection before. */
const comesIn = (viewer: Viewer, last: "SNAPSHOT" | "REPLAY_END" = "SNAPSHOT") =>
  until(
    "it is in, or not",
    () => viewer.payloads(last).length > 0 || viewer.errors.length > 0 || viewer.disconnects > 0,
  );

const nodeOf = (n: number) => (n % 2) + 1;

const operations: Record<string, Operation> = {
  async "connect with a filter"(matrix, who, other, times) {
    for (let n = 0; n < times; n++) {
      const mixed =
        n % 3 === 0 ? `${who.projects[0]},${other.projects[0]}` : (other.projects[n % 2] as string);
      const answer = await matrix.handshake(who, { project_ids: mixed }, nodeOf(n));
      const refused = !answer || answer.status === 403 || answer.status === 503;
      matrix.refused(who, "connect", refused, answer);
      matrix.look(who, "refusal", answer?.text);
    }
  },
  async "connect with a filter for agents"(matrix, who, other, times) {
    for (let n = 0; n < times; n++) {
      const viewer = await matrix.viewer(who, {
        on: nodeOf(n),
        query: { agent_ids: other.agents.join() },
        socket: { reconnection: false },
      });
      await comesIn(viewer);
      matrix.lookThrough(who, "agents", viewer);
      viewer.socket.disconnect();
    }
  },
  async SUBSCRIBE(matrix, who, other, times) {
    const viewer = await matrix.viewer(who, { socket: { reconnection: false } });
    await comesIn(viewer);
    for (let n = 0; n < times && viewer.socket.connected; n++) {
      const ids = [
        { project_ids: [other.projects[n % 2]] },
        { project_ids: [who.projects[0], other.projects[0]] },
      ];
      const answer = await viewer.subscribe(ids[n % 2]).catch(() => undefined);
      matrix.refused(who, "SUBSCRIBE", !answer?.ok, answer);
    }
    if (viewer.socket.connected) await viewer.subscribe({ agent_ids: other.agents }).catch(() => undefined);
    matrix.lookThrough(who, "SUBSCRIBE", viewer);
    viewer.socket.disconnect();
  },
  async replay(matrix, who, other, times) {
    for (let n = 0; n < times; n++) {
      const viewer = await matrix.viewer(who, {
        on: nodeOf(n),
        query: { last_sequence_id: SEQUENCE_START, ...(n % 2 === 0 && { agent_ids: other.agents.join() }) },
        socket: { reconnection: false },
      });
      await comesIn(viewer, "REPLAY_END");
      matrix.lookThrough(who, "replay", viewer);
      viewer.socket.disconnect();
    }
  },
  async "resume with another's pid"(matrix, who, other, times) {
    for (let n = 0; n < times; n++) {
      const victim = await matrix.viewer(other, { on: nodeOf(n), socket: { reconnection: false } });
      await comesIn(victim);
      const { _pid, _lastOffset } = victim.socket as unknown as { _pid?: string; _lastOffset?: string };
      const thief = await matrix.viewer(who, {
        on: nodeOf(n + 1),
        socket: { reconnection: false, autoConnect: false },
      });
      Object.assign(thief.socket, { _pid, _lastOffset: n % 2 === 0 ? _lastOffset : "1-0" });
      thief.socket.connect();
      await comesIn(thief);
      matrix.refused(who, "resume", thief.connects[0] !== true, thief.connects);
      matrix.lookThrough(who, "resume", thief);
      thief.socket.disconnect();
      victim.socket.disconnect();
    }
  },
  async "another's session id"(matrix, who, other, times) {
    const opened = await matrix.handshake(other, {}, 1);
    if (opened?.status !== 200) return;
    const { sid } = JSON.parse(opened.text.slice(1)) as { sid: string };
    const query = new URLSearchParams({ EIO: "4", transport: "polling", sid, token: matrix.tokenOf(who) });
    for (let n = 0; n < times; n++) {
      const init = n % 2 === 0 ? { method: "POST", body: "40/ws/agents," } : {};
      const answer = await matrix.ask(`/socket.io/?${query}`, 1, init);
      matrix.refused(who, "session", !answer || answer.status >= 400, answer);
      matrix.look(who, "session", answer?.text);
    }
    const own = new URLSearchParams({ EIO: "4", transport: "polling", sid, token: matrix.tokenOf(other) });
    await matrix.ask(`/socket.io/?${own}`, 1, { method: "POST", body: "1" });
  },
  async terminal(matrix, who, other, times) {
    for (let n = 0; n < times; n++) {
      const how = await matrix.join(who, `/ws/terminal/${other.tasks[n % 2]}`, nodeOf(n));
      matrix.refused(who, "terminal", how !== "came in", how);
    }
  },
  async HTTP(matrix, who, other, times) {
    for (let n = 0; n < times; n++) {
      const body = JSON.stringify({
        event_type: "AGENT_STATUS_CHANGED",
        agent_id: other.agents[0],
        project_id: other.projects[0],
        payload: { new_status: "failed" },
      });
      const headers = {
        "X-Internal-Service-Key": matrix.tokenOf(who),
        Authorization: `Bearer ${matrix.tokenOf(who)}`,
      };
      const answer = await matrix.ask("/api/v1/internal/ws/publish", nodeOf(n), {
        method: "POST",
        headers,
        body,
      });
      matrix.refused(who, "HTTP", !answer || answer.status === 403, answer);
      matrix.look(who, "HTTP", answer?.text);
    }
  },
};

/** Publishes one event of each project of each tenant. */
async function publishAll({ worker }: Cluster, times: number, tolerant = false): Promise<void> {
  const emitter = worker();
  for (let n = 0; n < times; n++) {
    for (const { projects, agents, tasks } of TENANTS) {
      const change = {
        agent_id: agents[n % 2] as string,
        project_id: projects[n % 2] as string,
        task_id: tasks[n % 2] as string,
        new_status: n % 3 === 0 ? ("failed" as const) : ("working" as const),
      };
      await emitter.agentStatus(change).catch((error) => {
        if (!tolerant) throw error;
      });
    }
  }
}

/** A tenant's own: each operation gives it what it may have. */
async function positiveControls(matrix: Matrix): Promise<void> {
  for (const who of TENANTS) {
    const answer = await matrix.handshake(who, { project_ids: who.projects.join() }, 1);
    if (answer?.status === 200) matrix.got("connect");
    const viewer = await (await matrix.viewer(who, { query: { project_ids: who.projects.join() } })).joined();
    const [snapshot] = viewer.payloads("SNAPSHOT");
    if (snapshot?.agents.every(({ agent_id }) => who.agents.includes(agent_id))) matrix.got("snapshot");
    if ((await viewer.subscribe({ project_ids: who.projects, agent_ids: who.agents })).ok)
      matrix.got("SUBSCRIBE");
    const worker = matrix.cluster.worker();
    const change = { agent_id: who.agents[0] as string, project_id: who.projects[0] as string };
    const { sequence_id } = await worker.agentStatus({ ...change, new_status: "working" });
    await viewer.has([sequence_id]);
    matrix.got("live");
    viewer.socket.disconnect();
    const missed = await worker.agentStatus({ ...change, new_status: "completed" });
    viewer.socket.connect();
    await viewer.has([missed.sequence_id]);
    if (viewer.connects.at(-1)) matrix.got("resume");
    const replay = await matrix.viewer(who, { query: { last_sequence_id: sequence_id } });
    await replay.has([missed.sequence_id]);
    matrix.got("replay");
    if ((await matrix.join(who, `/ws/terminal/${who.tasks[0]}`, 2)) === "came in") matrix.got("terminal");
    for (const one of [viewer, replay]) {
      matrix.lookThrough(who, "own", one);
      one.socket.disconnect();
    }
  }
}

const OWN = ["SUBSCRIBE", "connect", "live", "replay", "resume", "snapshot", "terminal"];

describe("five tenants", () => {
  needs("POSTGRES");

  async function start(policy: "claims" | "postgres") {
    const postgres = policy === "postgres" ? await startPostgres() : undefined;
    await postgres?.members(Object.fromEntries(TENANTS.map(({ user, projects }) => [user, projects])));
    const settings = { ...SETTINGS, ...(postgres && { DATABASE_URL: postgres.url }) };
    const cluster = await startCluster({ nodes: 2, settings, redisArgs: ["--appendonly", "yes"] });
    return { matrix: new Matrix(cluster), cluster, postgres };
  }

  /** Somebody of each tenant watches all the time, on each node, asking for everybody's agents or for none. */
  const watchers = (matrix: Matrix) =>
    Promise.all(
      TENANTS.flatMap((who) =>
        [{}, { agent_ids: TENANTS.flatMap(({ agents }) => agents).join() }].map(async (query, n) => ({
          who,
          viewer: await (await matrix.viewer(who, { on: n + 1, query })).joined(),
        })),
      ),
    );

  for (const policy of ["claims", "postgres"] as const) {
    it(`[D11] over 10,000 attempts on each other's ids by ${policy}, cold and warm: no leak; their own they get`, async function () {
      this.timeout(180_000);
      const { matrix, cluster } = await start(policy);
      await publishAll(cluster, 4);
      const watching = await watchers(matrix);
      for (const warmth of ["cold", "warm"]) {
        await Promise.all(
          pairs.map(async ({ who, other }) => {
            for (const [name, run] of Object.entries(operations)) {
              const cheap = ["connect with a filter", "SUBSCRIBE", "another's session id", "HTTP"].includes(
                name,
              );
              await run(matrix, who, other, cheap ? 35 : 2);
            }
          }),
        );
        await publishAll(cluster, 25);
        await positiveControls(matrix);
        expect(Object.keys(matrix.own).sort(), warmth).to.deep.equal(OWN);
      }
      for (const { who, viewer } of watching) {
        await viewer.sees("all that is its own", () => viewer.log.length >= 54);
        matrix.lookThrough(who, "watching", viewer);
      }
      expect(matrix.leaks).to.deep.equal([]);
      expect(matrix.attempts).to.be.above(10_000);
      for (const what of OWN) expect(matrix.own[what], what).to.equal(2 * TENANTS.length);
    });
  }

  it("[D11] while Redis and Postgres are restarted under them: no leak, and afterwards everybody gets its own", async function () {
    this.timeout(180_000);
    const seed = Number(process.env.FUZZ_SEED ?? Date.now() % 1_000_000);
    console.log(`      FUZZ_SEED=${seed}`);
    const random = createRandom(seed);
    const { matrix, cluster, postgres } = await start("postgres");
    await publishAll(cluster, 4);
    const watching = await watchers(matrix);
    let over = false;
    const trying = Promise.all(
      pairs.map(async ({ who, other }) => {
        while (!over) await random.pick(Object.values(operations))(matrix, who, other, 2);
      }),
    );
    const publishing = (async () => {
      while (!over) await publishAll(cluster, 1, true);
    })();
    for (let n = 0; n < 2; n++) {
      await postgres?.restart();
      await cluster.redis.restart();
      await postgres?.kill();
      await cluster.redis.kill();
      await postgres?.restart();
      await cluster.redis.restart();
    }
    over = true;
    await Promise.all([trying, publishing]);
    for (const node of cluster.nodes)
      await until("the node is ready", async () => (await node.readyz()) === 200);
    await positiveControls(matrix);
    for (const what of OWN) expect(matrix.own[what], what).to.equal(TENANTS.length);
    for (const { who, viewer } of watching) matrix.lookThrough(who, "watching", viewer);
    expect(matrix.leaks).to.deep.equal([]);
  });
});
