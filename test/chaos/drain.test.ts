import { createClient } from "@agentwire/client";
import { compareSequence, type SequenceId } from "@agentwire/shared";
import { expect } from "chai";
import { openBare } from "../harness/bare-viewer.js";
import { type Cluster, startCluster } from "../harness/cluster.js";
import { knock } from "../harness/knock.js";
import { startLoad } from "../harness/load.js";
import { needs } from "../harness/needs.js";
import { registryHas } from "../harness/registry.js";
import { onTeardown } from "../harness/teardown.js";
import { token } from "../harness/token.js";
import type { Viewer } from "../harness/viewer.js";
import { until } from "../harness/wait.js";

const GRACE_MS = 2000;

const come = (cluster: Cluster, count: number, transports = ["websocket"]) =>
  Promise.all(
    Array.from({ length: count }, async (_, n) =>
      (
        await cluster.viewer({
          on: 1,
          user: `${transports.length}-${transports[0]}-${n}`,
          socket: { transports },
        })
      ).joined(),
    ),
  );
/** As a load balancer that has seen /readyz. */
const leadElsewhere = async (cluster: Cluster) => (await cluster.front(1)).prefer(2);
const isBack = (viewers: Viewer[]) =>
  Promise.all(viewers.map((viewer) => viewer.sees("it is back", ({ connects }) => connects.length === 2)));

describe("a node that is stopped", () => {
  needs("REDIS");

  it("[D32][D7][D12] viewers are told, served until they go, and come back elsewhere; newcomers are refused", async () => {
    const cluster = await startCluster({ nodes: 2 });
    const viewers = [...(await come(cluster, 10)), ...(await come(cluster, 10, ["polling"]))];
    const load = startLoad(cluster.worker(), { perSecond: 100 });
    await viewers[0]?.sees("events flow", ({ raw }) => raw.length > 20);
    const node = cluster.node(1);
    const stopped = node.stop();
    await until("it drains", async () => (await node.readyz()) === 503);
    expect(await cluster.client().get("ws:instances:node-1:state")).to.equal("draining");
    const refused = await knock(
      `${node.url}/socket.io/?EIO=4&transport=polling&token=${token("late", ["p1"])}`,
    );
    expect([refused.status, JSON.parse(refused.body).error.code]).to.deep.equal([503, "DRAINING"]);

    for (const viewer of viewers)
      await viewer.sees(
        "it is told",
        ({ connects, payloads }) =>
          connects.length === 2 || payloads.call(viewer, "SERVER_DRAINING").length === 1,
      );
    await isBack(viewers);
    await stopped;
    expect([node.exitCode, node.stderr]).to.deep.equal([0, ""]);
    const published = (await load.stop()).map(({ sequence_id }) => sequence_id);
    const slots = viewers.map((viewer) => viewer.payloads("SERVER_DRAINING")[0]);
    for (const slot of slots)
      expect((slot?.deadline_ms ?? 0) - (slot?.reconnect_in_ms ?? 0)).to.equal(GRACE_MS);
    expect(new Set(slots.map((slot) => slot?.reconnect_in_ms)).size).to.be.above(10);
    for (const viewer of viewers) {
      await viewer.has(published);
      expect(viewer.connects).to.deep.equal([false, true]);
      expect(viewer.reasons).to.deep.equal(["transport close"]);
      expect(viewer.raw.length, "none twice").to.equal(viewer.log.length);
      const types = viewer.received.map(({ event_type }) => event_type);
      const draining = types.slice(types.indexOf("SERVER_DRAINING"), types.lastIndexOf("READY"));
      expect(draining, "it was served after it was told").to.include("AGENT_STATUS_CHANGED");
    }
    await registryHas(cluster, () => viewers.map(({ connectionId }) => connectionId));
    expect(await cluster.client().keys("ws:instances:node-1*")).to.deep.equal([]);
  });

  it("[D32] a client of ours makes its next connection first: it is live all the time", async () => {
    const cluster = await startCluster({ nodes: 2 });
    const client = createClient({
      urls: cluster.nodes.map(({ url }) => url),
      token: token("anna", ["p1"]),
    });
    onTeardown(() => client.close());
    const states: string[] = [];
    const ids: SequenceId[] = [];
    client.onState(({ name }) => states.push(name));
    client.on("AGENT_STATUS_CHANGED", ({ sequence_id }) => ids.push(sequence_id as SequenceId));
    await until("it is live", () => client.state.name === "live");
    const load = startLoad(cluster.worker(), { perSecond: 100 });
    await until("events flow", () => ids.length > 20);
    states.length = 0;
    await cluster.node(1).stop();
    expect(cluster.node(1).exitCode).to.equal(0);
    await until(
      "it is on the other node",
      () => "instanceId" in client.state && client.state.instanceId === "node-2",
    );
    const published = (await load.stop()).map(({ sequence_id }) => sequence_id).sort(compareSequence);
    await until("it has everything", () => ids.length >= published.length);
    expect(ids).to.deep.equal(published);
    expect(states.filter((name) => name === "connecting" || name === "waiting")).to.deep.equal([]);
  });

  it("[D32][D23] whoever is sent away comes back whatever its address' limit is, and no others", async () => {
    const cluster = await startCluster({ nodes: 2, settings: { WS_CONNECTIONS_PER_IP_PER_MINUTE: "10" } });
    const client = cluster.client();
    const viewers = await come(cluster, 10);
    // Those came more than a minute ago.
    await client.del(cluster.keys.rateLimitIp("127.0.0.1"));
    viewers.push(...(await come(cluster, 5, ["websocket", "polling"])));
    await leadElsewhere(cluster);
    await cluster.node(1).stop();
    await isBack(viewers);
    for (const { errors } of viewers) expect(errors.map(({ message }) => message)).to.deep.equal([]);
    // Ten were owed; five at least came in beyond the limit.
    expect(Number(await client.get(cluster.keys.owedIp("127.0.0.1")))).to.be.within(0, 5);
  });

  it("[D32] who does not go, does not read or is in no namespace is closed when the time is over", async () => {
    const cluster = await startCluster({ nodes: 1, settings: { WS_DRAIN_TIMEOUT: "2" } });
    const bare = await openBare(cluster.node(1).url);
    (bare.ws as unknown as { _socket: { pause(): void } })._socket.pause();
    const open = await fetch(
      `${cluster.node(1).url}/socket.io/?EIO=4&transport=polling&token=${token("nobody", ["p1"])}`,
    );
    expect(open.status).to.equal(200);
    const began = performance.now();
    await cluster.node(1).stop();
    expect(cluster.node(1).exitCode).to.equal(0);
    expect(performance.now() - began).to.be.within(900, 20_000);
  });

  it("[D32] with nobody there it ends at once; a second signal ends it whoever is there", async () => {
    const cluster = await startCluster({ nodes: 2, settings: { WS_DRAIN_TIMEOUT: "300" } });
    await cluster.node(2).stop();
    expect(cluster.node(2).exitCode).to.equal(0);
    const viewers = await come(cluster, 10);
    const node = cluster.node(1);
    process.kill(node.pid, "SIGINT");
    await until("it drains", async () => (await node.readyz()) === 503);
    process.kill(node.pid, "SIGTERM");
    await until("it has ended", () => !node.alive);
    expect(node.exitCode).to.equal(1);
    expect(viewers.length).to.equal(10);
  });
});
