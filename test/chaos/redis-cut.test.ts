import { expect } from "chai";
import type { Redis } from "ioredis";
import { Scene } from "../harness/outage.js";
import { openRedisProxy } from "../harness/redis-proxy.js";
import { until } from "../harness/wait.js";

const ROUNDS = 30;
/** Until both read again takes a second and more. */
const OF_READERS = 15;

/** The clients that wait in XREAD: the readers of the nodes, by id. */
async function readers(client: Redis): Promise<string[]> {
  const list = String(await client.client("LIST"));
  return [...list.matchAll(/^id=(\d+) .* cmd=xread /gm)].map(([, id]) => id as string);
}

/** A network between the nodes and Redis; workers are beside it. */
async function behindProxy() {
  const proxy = await openRedisProxy();
  const scene = await Scene.open({
    settings: { REDIS_URL: proxy.url },
    beforeNodes: async (redis) => proxy.lead(redis.port),
  });
  return { proxy, scene };
}

describe("connections to Redis that are lost", () => {
  it(`[D9][D17] all of them killed, ${ROUNDS} times: viewers stay and get everything`, async () => {
    const scene = await Scene.open();
    const client = scene.cluster.client();
    const normal = new Set<string>();
    await scene.endure({
      brief: true,
      async fail() {
        for (let round = 0; round < ROUNDS; round++) {
          const now = await until("readers read again", async () => {
            const found = await readers(client);
            return found.length >= 2 && found.every((id) => !normal.has(id)) && found;
          });
          for (const id of now) normal.add(id);
          await client.call("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes");
          await client.call("CLIENT", "KILL", "TYPE", "pubsub");
        }
      },
      heal() {},
    });
    await scene.cluster.stopCleanly();
  });

  it(`[D9] only the readers of the stream killed, ${OF_READERS} times: nobody but they notices`, async () => {
    const scene = await Scene.open();
    const client = scene.cluster.client();
    const killed = new Set<string>();
    for (let round = 0; round < OF_READERS; round++) {
      const found = await until("they read again", async () => {
        const now = (await readers(client)).filter((id) => !killed.has(id));
        return now.length >= 2 && now;
      });
      for (const id of found) {
        await client.call("CLIENT", "KILL", "ID", id);
        killed.add(id);
      }
    }
    await scene.flows();
    await scene.traffic.stop();
    expect(scene.traffic.refused()).to.deep.equal([]);
    for (const viewer of scene.viewers) {
      await viewer.has([...scene.traffic.confirmed.values()]);
      expect(viewer.raw.length).to.equal(viewer.log.length);
      expect(viewer.payloads("ERROR")).to.deep.equal([]);
      expect(viewer.connects).to.deep.equal([false]);
    }
    for (const { stderr } of scene.cluster.nodes) expect(stderr).to.equal("");
  });

  it("[D9][D17] a network that cuts all of them, again and again", async () => {
    const { proxy, scene } = await behindProxy();
    await scene.endure({
      brief: true,
      async fail() {
        for (let round = 0; round < ROUNDS; round++) {
          await until("the nodes are connected again", () => proxy.size >= 12);
          proxy.cut();
        }
      },
      heal() {},
    });
  });

  it("[D9][D12][D17] a black hole: lines that are dead without a word are given up", async () => {
    const { proxy, scene } = await behindProxy();
    await scene.endure({ workersReach: true, fail: () => proxy.swallow(), heal: () => proxy.serve() });
    await scene.cluster.stopCleanly();
  });
});
