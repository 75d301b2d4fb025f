import { expect } from "chai";
import { Scene } from "../harness/outage.js";
import { freePort } from "../harness/ports.js";
import { type RedisServer, startRedis } from "../harness/redis.js";
import { openRedisProxy } from "../harness/redis-proxy.js";
import { onTeardown } from "../harness/teardown.js";
import { until } from "../harness/wait.js";

const READONLY = /READONLY/;

/** Makes it a replica of this one, and waits until it has its data. */
async function follow(server: RedisServer, primary: RedisServer): Promise<void> {
  const client = server.client();
  await client.replicaof("127.0.0.1", primary.port);
  await until("it has the other's data", async () =>
    String(await client.info("replication")).includes("master_link_status:up"),
  );
}

const offsetOf = async (server: RedisServer) =>
  /(?:master|slave)_repl_offset:(\d+)/.exec(String(await server.client().info("replication")))?.[1];

async function another(): Promise<RedisServer> {
  const redis = await startRedis();
  onTeardown(() => redis.stop());
  return redis;
}

describe("a Redis that is demoted", () => {
  it("[D2][D12][D17] becomes a replica and a primary again: publishing fails honestly, and all comes back", async () => {
    const scene = await Scene.open();
    const client = scene.cluster.client();
    const nobody = await freePort();
    await scene.endure({
      fail: () => client.replicaof("127.0.0.1", nobody),
      heal: () => client.replicaof("NO", "ONE"),
      says: READONLY,
      promoted: true,
    });
    await scene.cluster.stopCleanly();
  });

  it("[D10][D17] becomes a replica with other data, and then a primary: the history is another one", async () => {
    const other = await another();
    const scene = await Scene.open();
    const { redis } = scene.cluster;
    await scene.endure({
      fail: () => follow(redis, other),
      heal: () => redis.client().replicaof("NO", "ONE"),
      says: READONLY,
      historyLost: true,
    });
    for (const viewer of scene.viewers) {
      expect(viewer.payloads("REPLAY_END").some(({ reason }) => reason === "history_lost")).to.equal(true);
      expect(viewer.payloads("SNAPSHOT").length).to.be.greaterThan(1);
    }
    await scene.cluster.stopCleanly();
  });

  it("[D9][D17] behind a fixed address: nodes and workers leave the demoted one for the new primary by themselves", async () => {
    const proxy = await openRedisProxy();
    const heir = await another();
    const scene = await Scene.open({
      settings: { REDIS_URL: proxy.url },
      beforeNodes: async (redis) => proxy.lead(redis.port),
      workersUse: proxy.url,
    });
    const { redis } = scene.cluster;
    await follow(heir, redis);
    await scene.endure({
      async fail() {
        const nobody = await freePort();
        // As FAILOVER does it: what was confirmed is on both.
        await redis.client().client("PAUSE", 5000, "WRITE");
        await until("the heir has all", async () => (await offsetOf(heir)) === (await offsetOf(redis)));
        await redis.client().replicaof("127.0.0.1", nobody);
        await redis.client().client("UNPAUSE");
      },
      async heal() {
        await heir.client().replicaof("NO", "ONE");
        proxy.lead(heir.port);
      },
      says: READONLY,
      promoted: true,
    });
    await until("nobody reads and listens at the demoted one any more", async () => {
      const list = String(await redis.client().client("LIST"));
      return !/ (cmd=xread|sub=[1-9]) /.test(list);
    });
    await redis.kill();
    const change = { agent_id: "a1", project_id: "p1", new_status: "working" } as const;
    const { sequence_id } = await scene.worker.agentStatus(change);
    for (const viewer of scene.viewers) await viewer.has([sequence_id]);
  });
});
