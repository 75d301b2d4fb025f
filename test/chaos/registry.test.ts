import { expect } from "chai";
import { type Cluster, sharedCluster } from "../harness/cluster.js";
import { startLoad } from "../harness/load.js";
import { needs } from "../harness/needs.js";
import { registryHas } from "../harness/registry.js";
import type { Viewer } from "../harness/viewer.js";
import { until } from "../harness/wait.js";

const idsOf = (viewers: Viewer[]) => () => viewers.map(({ connectionId }) => connectionId);
const come = (cluster: Cluster, on: number, count: number) =>
  Promise.all(
    Array.from({ length: count }, async (_, n) =>
      (await cluster.viewer({ on, user: `user-${on}-${n}` })).joined(),
    ),
  );

describe("the registry", () => {
  needs("REDIS");
  const shared = sharedCluster({ nodes: 3 });

  it("[D31] says what is open, and what a killed node leaves is removed by the others", async () => {
    const cluster = shared();
    // As many keys as 1,000 events/s leave within the window: who looked through all of them would need minutes.
    const fill = "for i = 1, 50000 do redis.call('SET', KEYS[1] .. ARGV[1] .. ':' .. i, '1') end";
    for (let n = 0; n < 6; n++) await cluster.client().eval(fill, 1, cluster.keys.eventId("x"), n);
    const here = [...(await come(cluster, 1, 10)), ...(await come(cluster, 2, 10))];
    await registryHas(cluster, idsOf(here));
    const before = idsOf(here)();
    // Nobody comes back: their tabs are closed in the same moment.
    for (const { socket } of here.slice(0, 5)) socket.io.reconnection(false);
    await cluster.node(1).kill();
    const back = here.slice(5, 10);
    await Promise.all(
      back.map((viewer) => viewer.sees("it is back", ({ connects }) => connects.length === 2)),
    );
    await Promise.all(back.map((viewer) => viewer.joined()));
    await registryHas(cluster, idsOf(here.slice(5)));
    expect(idsOf(here.slice(10))()).to.deep.equal(before.slice(10));
    const client = cluster.client();
    const own = async () => client.keys("ws:instances:node-1*");
    await until("nothing of the node itself", async () => (await own()).length === 0);
    const filled = await client.keys("ws:event:x*");
    for (let start = 0; start < filled.length; start += 10_000)
      await client.unlink(...filled.slice(start, start + 10_000));
    await cluster.node(1).restart();
  });

  it("[D31] what is left there by any cause goes: records, places and nodes that nobody stands behind", async () => {
    const cluster = shared();
    const { keys } = cluster;
    const here = await come(cluster, 2, 3);
    const client = cluster.client();
    const far = Date.now() + 86_400_000;
    await client
      .multi()
      .hset(keys.connection("ghost"), { connection_id: "ghost", user_id: "casper", instance_id: "gone" })
      .zadd(keys.userConnections("casper"), far, "ghost")
      .zadd(keys.userConnections("user-2-0"), far, "another")
      .hset(keys.instance("gone"), { instance_id: "gone" })
      .hset(keys.connection("nobody"), { connection_id: "nobody" })
      .exec();
    await registryHas(cluster, idsOf(here));
    await until("the node is gone", async () => (await client.exists(keys.instance("gone"))) === 0);
    expect(await client.exists(keys.instance("node-2"), keys.instanceState("node-2"))).to.equal(2);
  });

  it("[D31][D9] a node that hung for 20 s puts back what it has, and proves that nothing is missing", async function () {
    this.timeout(120_000);
    const cluster = shared();
    const { keys } = cluster;
    const client = cluster.client();
    const here = await come(cluster, 1, 5);
    const others = await come(cluster, 2, 5);
    await registryHas(cluster, idsOf([...here, ...others]));
    const load = startLoad(cluster.worker(), { perSecond: 50 });
    cluster.node(1).pause();
    const paused = Date.now();
    await registryHas(cluster, idsOf(others));
    await until("its own keys are gone", async () => (await client.exists(keys.instance("node-1"))) === 0);
    await until("twenty seconds are over", () => Date.now() - paused > 20_000);
    cluster.node(1).resume();
    for (const viewer of here)
      await viewer.sees("its refill", () => viewer.payloads("REPLAY_END").some(({ complete }) => complete));
    await registryHas(cluster, idsOf([...here, ...others]));
    const published = (await load.stop()).map(({ sequence_id }) => sequence_id);
    for (const viewer of [...here, ...others]) {
      await viewer.has(published);
      expect(viewer.connects).to.deep.equal([false]);
    }
    expect(await client.get(keys.instanceState("node-1"))).to.equal("active");
  });
});
