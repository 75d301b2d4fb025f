import { expect } from "chai";
import { startCluster } from "../harness/cluster.js";
import { until } from "../harness/wait.js";

describe("a node's life", () => {
  it("[D17] records of nodes and connections stand in Redis, and are gone after a stop", async () => {
    const cluster = await startCluster({ nodes: 2 });
    const client = cluster.client();
    const viewer = await (await cluster.viewer({ on: 2, query: { agent_ids: "a1,a2" } })).joined();
    const id = viewer.socket.id as string;
    await until("the record is written", () => client.exists(`ws:connections:${id}`));
    const record = await client.hgetall(`ws:connections:${id}`);
    expect(record).to.include({
      connection_id: id,
      user_id: "user-1",
      instance_id: "node-2",
      encoding: "json",
    });
    expect(record).to.include({ transport: "websocket", ip: "127.0.0.1" });
    expect(JSON.parse(record.filters as string)).to.deep.equal({
      agent_ids: ["a1", "a2"],
      project_ids: [],
      event_types: [],
    });
    expect(await client.ttl(`ws:connections:${id}`)).to.be.within(86_000, 86_400);
    const lease = Number(await client.zscore("ws:connections:user:user-1", id)) - Date.now();
    expect(lease).to.be.within(1000, 15_000);

    expect(await client.get("ws:instances:node-1:state")).to.equal("active");
    expect(await client.pttl("ws:instances:node-1:state")).to.be.within(1, 15_000);
    expect(await client.hgetall("ws:instances:node-2")).to.include({ instance_id: "node-2" });
    expect(await client.ttl("ws:instances:node-2")).to.be.within(1, 60);
    await cluster.stopCleanly();
    expect(await client.keys("ws:instances:*")).to.deep.equal([]);
  });

  it("[D17] the record goes when the connection does", async () => {
    const cluster = await startCluster({ nodes: 1 });
    const viewer = await (await cluster.viewer()).joined();
    const key = `ws:connections:${viewer.socket.id}`;
    await until("the record is written", () => cluster.client().exists(key));
    viewer.socket.disconnect();
    await until("the record is gone", async () => (await cluster.client().exists(key)) === 0);
    const slots = () => cluster.client().zcard("ws:connections:user:user-1");
    await until("its place is free", async () => (await slots()) === 0);
  });

  it("[D17] two clusters on one Redis with other prefixes do not hear each other", async () => {
    const settings = { WS_KEY_PREFIX: "other", EVENT_BUS_PREFIX: "other-events:" };
    const cluster = await startCluster({ nodes: 1, settings });
    const viewer = await (await cluster.viewer()).joined();
    await cluster.worker().agentStatus({ agent_id: "a1", project_id: "p1", new_status: "working" });
    const answer = await cluster.post({
      event_type: "AGENT_STATUS_CHANGED",
      agent_id: "a2",
      project_id: "p1",
      payload: { new_status: "working" },
    });
    expect(answer.status).to.equal(202);
    await viewer.sees("its own event", ({ raw }) => raw.length > 0);
    expect(viewer.raw.map(({ payload }) => payload.agent_id)).to.deep.equal(["a2"]);
    await cluster.stopCleanly();
  });
});
