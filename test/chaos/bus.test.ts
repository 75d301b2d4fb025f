import { expect } from "chai";
import { type Cluster, startCluster } from "../harness/cluster.js";
import { until } from "../harness/wait.js";

const message = (payload: object, more: object = {}) =>
  JSON.stringify({
    event_type: "AGENT_STATUS_CHANGED",
    entity_type: "agent",
    entity_id: "a1",
    payload,
    ...more,
  });
const working = { project_id: "p1", new_status: "working" };

/** The node that takes foreign messages in, by its number. */
async function holder(cluster: Cluster): Promise<number> {
  const client = cluster.client();
  const id = await until(
    "somebody takes messages in",
    async () => (await client.get(cluster.keys.busLease)) ?? false,
  );
  return Number(id.slice("node-".length));
}

describe("the event bus", () => {
  it("[D16] each PUBLISH is one event on three nodes, identical messages too; an event_id of its own counts once", async () => {
    const cluster = await startCluster({ nodes: 3 });
    const viewers = await Promise.all([1, 2, 3].map((on) => cluster.viewer({ on, user: `u${on}` })));
    await Promise.all(viewers.map((viewer) => viewer.joined()));
    const client = cluster.client();
    const channel = cluster.keys.bus("AGENT_STATUS_CHANGED");
    for (let n = 0; n < 20; n++) await client.publish(channel, message(working));
    for (let n = 0; n < 5; n++) await client.publish(channel, message(working, { event_id: "mine-1" }));
    await client.publish(channel, message({ ...working, new_status: "completed" }));

    for (const viewer of viewers) {
      await viewer.sees("the last one", ({ raw }) => raw.at(-1)?.payload.new_status === "completed");
      expect(viewer.raw).to.have.length(22);
      expect(viewer.raw.filter(({ event_id }) => event_id === "mine-1")).to.have.length(1);
    }
  });

  it("[D16] what came while the node that takes messages in hung, or was killed, is taken in once by another", async () => {
    const cluster = await startCluster({ nodes: 3 });
    const client = cluster.client();
    const channel = cluster.keys.bus("AGENT_STATUS_CHANGED");
    const first = await holder(cluster);
    const spare = first === 3 ? 1 : 3;
    const viewer = await (await cluster.viewer({ on: spare })).joined();

    cluster.node(first).pause();
    for (let n = 0; n < 5; n++) await client.publish(channel, message({ ...working, message: `hung ${n}` }));
    await viewer.sees("five from another node", ({ raw }) => raw.length >= 5);
    cluster.node(first).resume();

    const second = await holder(cluster);
    expect(second).to.not.equal(first);
    await until("it answers again", async () => (await cluster.node(first).readyz()) === 200);
    await client.publish(channel, message({ ...working, message: "after" }));
    await viewer.sees("one more", ({ raw }) => raw.length >= 6);
    expect(viewer.raw.map(({ payload }) => payload.message)).to.deep.equal([
      ...Array.from({ length: 5 }, (_, n) => `hung ${n}`),
      "after",
    ]);
    await cluster.node(second).kill();
    await client.publish(channel, message({ ...working, message: "killed" }));
    await viewer.sees("one more from the third", ({ raw }) =>
      raw.some(({ payload }) => payload.message === "killed"),
    );
    expect(viewer.raw).to.have.length(7);
  });

  it("[D3] what the emitter publishes is announced on the bus, with its sequence_id", async () => {
    const cluster = await startCluster({ nodes: 2 });
    const heard: string[] = [];
    const subscriber = cluster.client();
    subscriber.on("message", (_channel, text) => heard.push(text));
    await subscriber.subscribe(cluster.keys.bus("AGENT_STATUS_CHANGED"));
    const { sequence_id, event_id } = await cluster
      .worker()
      .agentStatus({ agent_id: "a1", project_id: "p1", new_status: "failed" });
    await until("it is announced", () => heard.length > 0);
    expect(JSON.parse(heard[0] as string)).to.deep.include({
      event_type: "AGENT_STATUS_CHANGED",
      entity_type: "agent",
      entity_id: "a1",
      event_id,
      sequence_id,
      payload: { agent_id: "a1", project_id: "p1", old_status: null, new_status: "failed" },
    });
    expect(await cluster.client().xlen(cluster.keys.events)).to.be.at.least(1);
    expect(heard).to.have.length(1);
  });
});
