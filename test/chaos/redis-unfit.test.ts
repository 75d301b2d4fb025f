import { expect } from "chai";
import { type Cluster, startCluster } from "../harness/cluster.js";
import { type RedisServer, startRedis } from "../harness/redis.js";
import { until } from "../harness/wait.js";

const LINE = (policy: string) =>
  `agentwire: Redis evicts keys (maxmemory-policy ${policy}), and history with them: it must be noeviction\n`;

/** One node on a Redis that was prepared so. */
const startOn = (prepare: (redis: RedisServer) => Promise<unknown>): Promise<Cluster> =>
  startCluster({
    nodes: 1,
    notReady: true,
    beforeNodes: async (redis) => {
      await prepare(redis);
    },
  });

const evict = (redis: RedisServer, policy: string) =>
  redis.client().config("SET", "maxmemory-policy", policy);
/** As a provider of Redis does it. */
const forbid = (redis: RedisServer, ...commands: string[]) =>
  redis.client().call("ACL", "SETUSER", "default", ...commands.map((name) => `-${name}`));

async function endsWith(cluster: Cluster, policy: string): Promise<void> {
  const node = cluster.node(1);
  await until("it ends", () => !node.alive);
  await until("it has said why", () => node.stderr.endsWith("\n"));
  expect(node.exitCode).to.equal(1);
  expect(node.stderr).to.equal(LINE(policy));
  expect(node.log.filter(({ level }) => Number(level) >= 50)).to.deep.equal([]);
}

describe("a Redis that evicts", () => {
  for (const policy of ["allkeys-lru", "volatile-ttl"]) {
    it(`[D18] ${policy}: the node does not start, and says why in one line`, async () => {
      const cluster = await startOn((redis) => evict(redis, policy));
      await endsWith(cluster, policy);
      expect(await cluster.client().keys("ws:*")).to.deep.equal([]);
    });
  }

  it("[D18] also where it came later than the node, and where INFO is forbidden", async () => {
    const cluster = await startOn((redis) => redis.kill());
    const { port } = cluster.redis;
    const node = cluster.node(1);
    await until("it waits", async () => (await node.readyz()) === 503);
    const late = await startRedis({ port, args: ["--maxmemory-policy", "volatile-lru"] });
    try {
      await endsWith(cluster, "volatile-lru");
    } finally {
      await late.stop();
    }
    const other = await startOn(async (redis) => {
      await evict(redis, "allkeys-random");
      await forbid(redis, "info");
    });
    await until("it ends", () => !other.node(1).alive);
    expect(other.node(1).stderr).to.include(LINE("allkeys-random"));
  });

  it("[D17] where CONFIG is forbidden INFO tells; where both are, the node says that it does not know", async () => {
    const cluster = await startOn((redis) => forbid(redis, "config"));
    await cluster.node(1).ready();
    const blind = await startOn((redis) => forbid(redis, "info", "config"));
    await blind.node(1).ready();
    const warned = blind.node(1).log.filter(({ level }) => Number(level) >= 40);
    expect(warned.map(({ msg }) => msg)).to.deep.equal([
      "whether Redis evicts keys is not known: INFO and CONFIG are forbidden",
    ]);
  });

  it("[D17] one that begins to evict while it is away: the node stays, is not ready, and says so once", async () => {
    const cluster = await startCluster({ nodes: 1 });
    const node = cluster.node(1);
    const viewer = await (await cluster.viewer()).joined();
    const client = cluster.client();
    const errors = () => node.log.filter(({ level }) => Number(level) >= 50);
    await evict(cluster.redis, "allkeys-lfu");
    await client.call("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes");
    await until("it says so", () => errors().length > 0);
    expect(await node.readyz()).to.equal(503);
    await evict(cluster.redis, "noeviction");
    await until("it is ready", async () => (await node.readyz()) === 200);
    expect(errors().map(({ err }) => `agentwire: ${err}\n`)).to.deep.equal([LINE("allkeys-lfu")]);
    const change = { agent_id: "a1", project_id: "p1", new_status: "working" } as const;
    await viewer.has([(await cluster.worker().agentStatus(change)).sequence_id]);
    expect(viewer.connects).to.deep.equal([false]);
  });
});
