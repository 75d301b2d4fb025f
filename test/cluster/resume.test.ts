import type { Envelope } from "@agentwire/shared";
import { expect } from "chai";
import { startCluster } from "../harness/cluster.js";
import { until } from "../harness/wait.js";

const change = (n: number, project_id = "p1") => ({
  agent_id: `a${n % 3}`,
  project_id,
  new_status: "working" as const,
  message: `step ${n}`,
});

describe("coming back", () => {
  it("[D7] last_sequence_id on another node: exactly what came after it, then live", async () => {
    const cluster = await startCluster({ nodes: 2 });
    const worker = cluster.worker();
    const first = await (await cluster.viewer({ on: 1 })).joined();
    const ids: string[] = [];
    for (let n = 0; n < 3; n++) ids.push((await worker.agentStatus(change(n))).sequence_id);
    await first.has(ids);
    first.socket.disconnect();
    for (let n = 3; n < 8; n++) ids.push((await worker.agentStatus(change(n))).sequence_id);

    const query = { last_sequence_id: ids[2] as string };
    const second = await (await cluster.viewer({ on: 2, query })).joined();
    ids.push((await worker.agentStatus(change(8))).sequence_id);
    await second.has(ids.slice(3));
    expect(second.raw.map(({ sequence_id }) => sequence_id)).to.deep.equal(ids.slice(3));
    expect(second.payloads("REPLAY_START")).to.deep.equal([{ from: ids[2] }]);
    expect(second.payloads("REPLAY_END")).to.deep.equal([{ to: ids[7], count: 5, complete: true }]);
    expect(second.payloads("SNAPSHOT")).to.deep.equal([]);
    expect(second.payloads("READY")[0]).to.include({ recovered: true, instance_id: "node-2" });
    await cluster.stopCleanly();
  });

  it("[D7] a stock client resumes on another node after kill -9, and says recovered", async () => {
    const cluster = await startCluster({ nodes: 2 });
    const worker = cluster.worker();
    const viewer = await (await cluster.viewer({ on: 1 })).joined();
    const ids = [(await worker.agentStatus(change(0))).sequence_id];
    await viewer.has(ids);
    await cluster.node(1).kill();
    for (let n = 1; n < 5; n++) ids.push((await worker.agentStatus(change(n))).sequence_id);
    await viewer.has(ids);
    expect(viewer.raw.map(({ sequence_id }) => sequence_id)).to.deep.equal(ids);
    expect(viewer.connects).to.deep.equal([false, true]);
    await viewer.sees("the end of the replay", () => viewer.payloads("REPLAY_END").length === 1);
  });

  it("[D7] a stock client that had received no event resumes from where its session began", async () => {
    const cluster = await startCluster({ nodes: 2 });
    const worker = cluster.worker();
    await worker.agentStatus(change(0));
    const viewer = await (await cluster.viewer({ on: 1 })).joined();
    await cluster.node(1).kill();
    const ids = [(await worker.agentStatus(change(1))).sequence_id];
    await viewer.has(ids);
    expect(viewer.log).to.deep.equal(ids);
    expect(viewer.connects).to.deep.equal([false, true]);
  });

  it("[D7] the filters of the last SUBSCRIBE are in force after a resume", async () => {
    const cluster = await startCluster({ nodes: 2 });
    const worker = cluster.worker();
    const viewer = await (await cluster.viewer({ on: 1 })).joined();
    expect(await viewer.subscribe({ agent_ids: ["a1"] })).to.include({ ok: true });
    const session = (await cluster.client().keys("ws:session:*"))[0] as string;
    await until("the session has the filters", async () =>
      (await cluster.client().hget(session, "filters"))?.includes("a1"),
    );
    await cluster.node(1).kill();
    const ids: string[] = [];
    for (let n = 0; n < 4; n++) ids.push((await worker.agentStatus(change(n))).sequence_id);
    await viewer.has([ids[1] as string]);
    expect(viewer.payloads("READY")[1]?.filters.agent_ids).to.deep.equal(["a1"]);
    expect(viewer.log).to.deep.equal([ids[1]]);
  });

  it("[D7] a node that hung does not write over the filters that its client chose on another node", async () => {
    const cluster = await startCluster({ nodes: 3 });
    const worker = cluster.worker();
    const front = await cluster.front(1);
    const viewer = await (await cluster.viewer({ on: 1 })).joined();
    cluster.node(1).pause();
    front.prefer(2);
    front.cut();
    await viewer.sees("it is on node 2", () => viewer.payloads("READY").at(-1)?.instance_id === "node-2");
    expect(await viewer.subscribe({ agent_ids: ["a1"] })).to.include({ ok: true });
    cluster.node(1).resume();
    await until("node 1 has noticed", async () => {
      const ids = await cluster.client().zrange("ws:connections:user:user-1", "0", "-1");
      return ids.length === 1 && ids[0] === viewer.socket.id;
    });
    front.prefer(3);
    await cluster.node(2).kill();
    await viewer.sees("it is on node 3", () => viewer.payloads("READY").at(-1)?.instance_id === "node-3");
    expect(viewer.payloads("READY").at(-1)?.filters.agent_ids).to.deep.equal(["a1"]);
    expect(viewer.connects).to.deep.equal([false, true, true]);
    const ids: string[] = [];
    for (let n = 0; n < 3; n++) ids.push((await worker.agentStatus(change(n))).sequence_id);
    await viewer.has([ids[1] as string]);
    expect(viewer.log).to.deep.equal([ids[1]]);
  });

  it("[D7] a quiet connection resumes although its last event is older than the window", async () => {
    const cluster = await startCluster({ nodes: 2, settings: { WS_REPLAY_WINDOW_SECONDS: "2" } });
    const worker = cluster.worker();
    const viewer = await (await cluster.viewer({ on: 1, projects: ["p1"] })).joined();
    const { sequence_id } = await worker.agentStatus(change(0));
    await viewer.has([sequence_id]);
    const session = (await cluster.client().keys("ws:session:*"))[0] as string;
    // Others go on meanwhile, so that the log is trimmed and the position in the session moves.
    await until("the session has come 3 s further", async () => {
      await worker.agentStatus(change(1, "p2"));
      const asOf = await cluster.client().hget(session, "as_of");
      return asOf && Number.parseInt(asOf, 10) > Number.parseInt(sequence_id, 10) + 3000;
    });
    await cluster.node(1).kill();
    const after = await worker.agentStatus(change(2));
    await viewer.has([sequence_id, after.sequence_id]);
    expect(viewer.connects).to.deep.equal([false, true]);
    expect(viewer.payloads("REPLAY_END").at(-1)).to.include({ complete: true, count: 1 });
  });

  it("[D8] what is older than the window is told: window_exceeded, and a snapshot", async () => {
    const cluster = await startCluster({ nodes: 1, settings: { WS_REPLAY_WINDOW_SECONDS: "1" } });
    const worker = cluster.worker();
    const { sequence_id } = await worker.agentStatus(change(0));
    const missed = await worker.agentStatus(change(1));
    await until("the window is over", () => Date.now() > Number.parseInt(missed.sequence_id, 10) + 1100);
    const query = { last_sequence_id: sequence_id };
    const viewer = await (await cluster.viewer({ query })).joined();
    expect(viewer.payloads("REPLAY_END")).to.have.length(1);
    expect(viewer.payloads("REPLAY_END")[0]).to.include({
      complete: false,
      reason: "window_exceeded",
      count: 0,
    });
    expect(viewer.payloads("SNAPSHOT")[0]?.agents.map(({ agent_id }) => agent_id)).to.have.members([
      "a0",
      "a1",
    ]);
    expect(viewer.payloads("READY")[0]?.recovered).to.equal(false);
  });

  it("[D8] also where the user's index has forgotten it, and the log still holds it", async () => {
    const cluster = await startCluster({ nodes: 1, settings: { WS_REPLAY_WINDOW_SECONDS: "1" } });
    const worker = cluster.worker();
    const first = await (await cluster.viewer()).joined();
    const ids = [
      (await worker.agentStatus(change(0))).sequence_id,
      (await worker.agentStatus(change(1))).sequence_id,
    ];
    await first.has(ids);
    first.socket.disconnect();
    const client = cluster.client();
    await until("the window is over", () => Date.now() > Number.parseInt(ids[1] as string, 10) + 1100);
    // What trimming by age leaves of so short an index.
    await client.del("ws:replay:agent_status:user-1");
    expect(await client.xrange(cluster.keys.events, ids[1] as string, ids[1] as string)).to.have.length(1);
    const viewer = await (await cluster.viewer({ query: { last_sequence_id: ids[0] as string } })).joined();
    expect(viewer.payloads("REPLAY_END")[0]).to.include({ complete: false, reason: "window_exceeded" });
  });

  it("[D8] a position older than the window is complete when nothing that the user could see came after it", async () => {
    const cluster = await startCluster({ nodes: 1, settings: { WS_REPLAY_WINDOW_SECONDS: "1" } });
    const worker = cluster.worker();
    const { sequence_id } = await worker.agentStatus(change(0));
    await worker.agentStatus(change(1, "p2"));
    await until("the window is over", () => Date.now() > Number.parseInt(sequence_id, 10) + 1100);
    const viewer = await (await cluster.viewer({ query: { last_sequence_id: sequence_id } })).joined();
    expect(viewer.payloads("REPLAY_END")[0]).to.include({ complete: true, count: 0 });
  });

  it("[D8] more than one replay sends is told: trimmed, the newest, and a snapshot", async () => {
    const cluster = await startCluster({ nodes: 1, settings: { WS_MAX_REPLAY_MESSAGES: "20" } });
    const worker = cluster.worker();
    const ids: string[] = [];
    for (let n = 0; n < 50; n++) ids.push((await worker.agentStatus(change(n))).sequence_id);
    const viewer = await (await cluster.viewer({ query: { last_sequence_id: ids[0] as string } })).joined();
    expect(viewer.payloads("REPLAY_END")[0]).to.include({ complete: false, reason: "trimmed", count: 20 });
    expect(viewer.log).to.deep.equal(ids.slice(-20));
    expect(viewer.payloads("SNAPSHOT")).to.have.length(1);
  });

  it("[D8] a position from another history, or from the future, is told: history_lost", async () => {
    const cluster = await startCluster({ nodes: 1 });
    const { sequence_id } = await cluster.worker().agentStatus(change(0));
    const future = `${Number.parseInt(sequence_id, 10) + 10_000}-0`;
    for (const query of [
      { last_sequence_id: future },
      { last_sequence_id: "1000-0" },
      { last_sequence_id: sequence_id, epoch: "another" },
    ]) {
      const viewer = await (await cluster.viewer({ query, user: `user-${query.last_sequence_id}` })).joined();
      expect(viewer.payloads("REPLAY_END")[0]).to.include({ complete: false, reason: "history_lost" });
      expect(viewer.payloads("SNAPSHOT")[0]?.agents).to.have.length(1);
    }
  });

  it("[D8] what was published before the user was ever here is replayed from the log, and proven complete", async () => {
    const cluster = await startCluster({ nodes: 1 });
    const ids: string[] = [];
    for (let n = 0; n < 6; n++) {
      ids.push((await cluster.worker().agentStatus(change(n, n % 2 ? "p1" : "p2"))).sequence_id);
    }
    const query = { last_sequence_id: ids[0] as string };
    const viewer = await (await cluster.viewer({ user: "newcomer", query })).joined();
    expect(viewer.log).to.deep.equal([ids[1], ids[3], ids[5]]);
    expect(viewer.payloads("REPLAY_END")[0]).to.deep.equal({ to: ids[5], count: 3, complete: true });
  });

  it("[D7] log events carry their offset as a last argument, no other event does, and none with resume=none", async () => {
    const cluster = await startCluster({ nodes: 1 });
    const worker = cluster.worker();
    const offsets = (extra: unknown[]) => extra.filter((one) => typeof one === "string");
    for (const query of [{}, { resume: "none" }]) {
      const viewer = await cluster.viewer({ query: query as Record<string, string> });
      const strings = new Map<string, unknown[]>();
      viewer.socket.onAny((name: string, _envelope: Envelope, ...rest: unknown[]) =>
        strings.set(name, offsets(rest)),
      );
      await viewer.joined();
      const { sequence_id } = await worker.agentStatus(change(0));
      await viewer.has([sequence_id]);
      expect(strings.get("AGENT_STATUS_CHANGED")).to.deep.equal("resume" in query ? [] : [sequence_id]);
      for (const name of ["READY", "SNAPSHOT"]) expect(strings.get(name), name).to.deep.equal([]);
      (await cluster.front(1)).cut();
      await viewer.sees("it is back", ({ connects }) => connects.length === 2);
      expect(viewer.connects).to.deep.equal([false, !("resume" in query)]);
    }
  });
});
