import { expect } from "chai";
import { startCluster } from "../harness/cluster.js";
import { startLoad } from "../harness/load.js";
import { registryHas } from "../harness/registry.js";
import { until } from "../harness/wait.js";

const change = { agent_id: "a1", project_id: "p1", new_status: "working" as const };

describe("a Redis that fails", () => {
  it("[D10][D17] restarted empty: nodes come back by themselves, the epoch is another, viewers are told", async () => {
    const cluster = await startCluster({ nodes: 2 });
    const viewers = await Promise.all([1, 2].map((on) => cluster.viewer({ on, user: `user-${on}` })));
    await Promise.all(viewers.map((viewer) => viewer.joined()));
    const before = await cluster.worker().agentStatus(change);
    for (const viewer of viewers) await viewer.has([before.sequence_id]);
    const epoch = viewers[0]?.payloads("READY")[0]?.epoch;

    await cluster.redis.restart({ empty: true });
    await Promise.all(
      cluster.nodes.map((node) => until("ready again", async () => (await node.readyz()) === 200)),
    );
    for (const viewer of viewers) {
      await viewer.sees("history_lost", () =>
        viewer.payloads("REPLAY_END").some(({ reason, complete }) => reason === "history_lost" && !complete),
      );
      await viewer.sees("a snapshot of the new history", () => viewer.payloads("SNAPSHOT").length === 2);
      expect(viewer.payloads("SNAPSHOT")[1]?.agents).to.deep.equal([]);
      expect(viewer.connects).to.deep.equal([false]);
    }

    const after = await cluster.worker().agentStatus({ ...change, new_status: "stuck" });
    for (const viewer of viewers) await viewer.has([after.sequence_id]);
    const newcomer = await (await cluster.viewer({ user: "newcomer" })).joined();
    expect(newcomer.payloads("READY")[0]?.epoch).to.not.equal(epoch);
    // Everything a resume needs was written again: the new history goes on after a killed node.
    await until(
      "the sessions are there",
      async () => (await cluster.client().keys("ws:session:*")).length >= 3,
    );
    await cluster.node(1).kill();
    const last = await cluster.worker().agentStatus(change);
    for (const viewer of viewers) await viewer.has([last.sequence_id]);
    expect(viewers[0]?.connects).to.deep.equal([false, true]);
    await registryHas(cluster, () => [...viewers, newcomer].map(({ connectionId }) => connectionId));
    await cluster.stopCleanly();
  });

  it("[D10] emptied while everybody stays connected (FLUSHALL)", async () => {
    const cluster = await startCluster({ nodes: 1 });
    const viewer = await (await cluster.viewer()).joined();
    const worker = cluster.worker();
    await viewer.has([(await worker.agentStatus(change)).sequence_id]);
    await cluster.client().flushall();
    const { sequence_id } = await worker.agentStatus(change);
    await viewer.has([sequence_id]);
    await viewer.sees("history_lost", () =>
      viewer.payloads("REPLAY_END").some(({ reason }) => reason === "history_lost"),
    );
  });

  it("[D10] a history that lost its end (AOF cut short): another epoch, and viewers are told", async () => {
    const cluster = await startCluster({ nodes: 1 });
    const viewer = await (await cluster.viewer()).joined();
    const worker = cluster.worker();
    const first = await worker.agentStatus(change);
    const second = await worker.agentStatus(change);
    await viewer.has([first.sequence_id, second.sequence_id]);
    const client = cluster.client();
    const epoch = await client.get(cluster.keys.epoch);
    // What a Redis looks like that came back without its last second.
    await client
      .multi()
      .xdel(cluster.keys.events, second.sequence_id)
      .set(cluster.keys.head, first.sequence_id)
      .exec();
    await viewer.sees("history_lost", () =>
      viewer.payloads("REPLAY_END").some(({ reason }) => reason === "history_lost"),
    );
    expect(await client.get(cluster.keys.epoch)).to.not.equal(epoch);
    const third = await worker.agentStatus(change);
    await viewer.has([third.sequence_id]);
  });

  it("[D17][D12] absent at start: the node waits, answers 503, and is ready when Redis is there", async () => {
    const cluster = await startCluster({ nodes: 1, notReady: true, beforeNodes: (redis) => redis.kill() });
    const node = cluster.node(1);
    await until("the node listens", async () => (await node.readyz()) === 503);
    const handshake = await fetch(`${node.url}/socket.io/?EIO=4&transport=polling`);
    expect(handshake.status).to.equal(503);
    expect(((await handshake.json()) as { error: unknown }).error).to.include({
      code: "UNAVAILABLE",
      retry: "later",
    });
    expect(handshake.headers.get("retry-after")).to.not.equal(null);
    expect(node.log.some(({ msg }) => msg === "listening")).to.equal(false);

    await cluster.redis.restart();
    await until("ready within 5 s of Redis", async () => (await node.readyz()) === 200, 5000);
    const viewer = await (await cluster.viewer()).joined();
    await viewer.has([(await cluster.worker().agentStatus(change)).sequence_id]);
  });

  it("[D9][D7] gone for a while under load, with its data kept: viewers stay connected and miss nothing", async () => {
    const cluster = await startCluster({
      nodes: 2,
      redisArgs: ["--appendonly", "yes", "--appendfsync", "always"],
    });
    const viewer = await (await cluster.viewer({ on: 2 })).joined();
    const load = startLoad(cluster.worker(), { perSecond: 50, toleratesErrors: true });
    await viewer.sees("events flow", ({ raw }) => raw.length > 20);
    await cluster.redis.kill();
    await until("publishing fails", () => load.failed() > 0);
    await viewer.sees("it is told", () => viewer.payloads("ERROR").some(({ code }) => code === "DEGRADED"));
    await cluster.redis.restart();
    const seen = viewer.raw.length;
    await viewer.sees("events flow again", ({ raw }) => raw.length > seen + 20);
    const published = (await load.stop()).map(({ sequence_id }) => sequence_id);
    await viewer.has(published);
    expect(viewer.connects).to.deep.equal([false]);
    expect(viewer.payloads("REPLAY_END").every(({ complete }) => complete)).to.equal(true);
  });

  it("[D15] a poisoned stream entry is skipped with one log line, and delivery goes on", async () => {
    const cluster = await startCluster({ nodes: 1 });
    const viewer = await (await cluster.viewer()).joined();
    const client = cluster.client();
    const ids: string[] = [];
    const publish = async () => ids.push((await cluster.worker().agentStatus(change)).sequence_id);
    await publish();
    const head = (await client.get(cluster.keys.epoch)) as string;
    const poison = [
      ["data", '{"packet":{"type":2,"data":["AGENT_STATUS_CHANGED",{}],"nsp":"/ws/agents"}}'],
      ["data", "not JSON at all"],
      ["data", '{"packet":null,"opts":null}'],
      ["data", "{"],
      [],
      [
        "prev",
        ids[0] as string,
        "epoch",
        head,
        "data",
        '{"packet":{"data":["AGENT_STATUS_CHANGED",{"payload":{}}]}}',
      ],
      ["prev", "x", "epoch", head, "data", "{}"],
    ];
    for (const fields of poison) {
      await client.xadd(cluster.keys.events, "*", "uid", "x", "nsp", "/ws/agents", "type", "3", ...fields);
      await publish();
    }
    await viewer.has(ids);
    expect(viewer.raw.map(({ sequence_id }) => sequence_id)).to.deep.equal(ids);
    await until(
      "each is logged",
      () => cluster.node(1).log.filter(({ msg }) => msg === "stream entry skipped").length >= 7,
    );
    const skipped = cluster.node(1).log.filter(({ msg }) => msg === "stream entry skipped");
    expect(skipped).to.have.length(poison.length);
    expect(viewer.payloads("REPLAY_START")).to.deep.equal([]);
  });
});
