import { setTimeout as pause } from "node:timers/promises";
import { expect } from "chai";
import { type Cluster, startCluster } from "../harness/cluster.js";
import { readLog } from "../harness/events-log.js";
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
  return Number.parseInt(id.slice("node-".length), 10);
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

  it("[D16] a node that is stopped takes in what it has heard", async () => {
    const cluster = await startCluster({ nodes: 1 });
    const client = cluster.client();
    await holder(cluster);
    const burst = client.pipeline();
    for (let n = 0; n < 300; n++) {
      burst.publish(cluster.keys.bus("AGENT_STATUS_CHANGED"), message({ ...working, message: `${n}` }));
    }
    const heardBy = (await burst.exec())?.map(([, count]) => count);
    expect(heardBy).to.deep.equal(Array(300).fill(1));
    await cluster.node(1).stop();
    const log = await readLog(client);
    expect(log.map(({ envelope }) => envelope.payload.message)).to.deep.equal(
      Array.from({ length: 300 }, (_, n) => `${n}`),
    );
  });

  it("[D16] nothing is lost or doubled when one subscriber after the other loses its connection", async () => {
    const cluster = await startCluster({ nodes: 2 });
    const client = cluster.client();
    await holder(cluster);
    const sent: string[] = [];
    let on = true;
    const publishing = (async () => {
      for (let n = 0; on; n++) {
        const text = message({ ...working, message: `${n}` });
        if ((await client.publish(cluster.keys.bus("AGENT_STATUS_CHANGED"), text)) > 0) sent.push(`${n}`);
        await pause(3);
      }
    })();
    const subscribers = String(await client.call("CLIENT", "LIST", "TYPE", "pubsub")).split("\n");
    for (const line of subscribers.filter((one) => one.includes(" sub=1 "))) {
      await client.call("CLIENT", "KILL", "ID", /^id=(\d+)/.exec(line)?.[1] as string);
      // Long enough for the lease to be left and taken: two that are deaf at once do lose what nobody hears.
      const killed = Date.now();
      await until("it hears again, for a while", () => Date.now() - killed > 3000);
      const then = sent.length;
      await until("what is sent then is taken in", async () => {
        const log = await readLog(client);
        return log.some(({ envelope }) => envelope.payload.message === sent[then]);
      });
    }
    on = false;
    await publishing;
    const inLog = async () =>
      (await readLog(client)).map(({ envelope }) => envelope.payload.message as string);
    const all = await until("all are in the log", async () => {
      const log = await inLog();
      return log.length >= sent.length && log;
    }).catch(async (error) => {
      const log = new Set(await inLog());
      throw new Error(`${error.message}; missing of ${sent.length}: ${sent.filter((one) => !log.has(one))}`);
    });
    expect(new Set(all).size).to.equal(all.length);
    expect([...all].sort()).to.deep.equal([...sent].sort());
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
