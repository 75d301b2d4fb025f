import { mkdir, rm } from "node:fs/promises";
import { join } from "node:path";
import { expect } from "chai";
import { startCluster } from "../harness/cluster.js";
import { Scene } from "../harness/outage.js";
import { until } from "../harness/wait.js";

/** A client of a Redis that is busy must have been there before, and one of a Redis that loads must not wait for it. */
const AS_IT_IS = { enableReadyCheck: false };

/** Runs a script without end; resolves when Redis answers with BUSY. @returns ends it */
async function keepBusy({
  client,
}: Pick<Scene["cluster"]["redis"], "client">): Promise<() => Promise<unknown>> {
  const [runner, killer] = [client(), client()];
  await Promise.all([runner.ping(), killer.ping()]);
  runner.eval("while true do end", 0).catch(() => {});
  await until("Redis is busy", () =>
    killer.ping().then(
      () => false,
      (error) => error.message.startsWith("BUSY"),
    ),
  );
  return () => killer.script("KILL");
}

const BUSY_SOON = ["--busy-reply-threshold", "100"];

describe("a Redis that refuses", () => {
  it("[D2][D12][D17] its memory is full: nothing is taken, nobody leaves, and with room all comes back", async () => {
    const scene = await Scene.open();
    const { keys, nodes, redis } = scene.cluster;
    const client = redis.client();
    await scene.endure({
      fail: () => client.config("SET", "maxmemory", "1mb"),
      heal: () => client.config("SET", "maxmemory", "0"),
      says: /OOM/,
    });
    for (const { id } of nodes) expect(await client.get(keys.instanceState(id))).to.equal("active");
    const now = Date.now();
    for (const viewer of scene.viewers) {
      const [{ connection_id = "", user_id = "" } = {}] = viewer.payloads("READY");
      expect(await client.hget(keys.connection(connection_id), "user_id")).to.equal(user_id);
      expect(Number(await client.zscore(keys.userConnections(user_id), connection_id))).to.be.above(now);
      expect(Number(await client.zscore(keys.leases, connection_id))).to.be.above(now);
    }
    await scene.cluster.stopCleanly();
  });

  it("[D2][D12][D17] somebody's script does not end", async () => {
    const scene = await Scene.open({ redisArgs: BUSY_SOON });
    let end: () => Promise<unknown> = async () => {};
    await scene.endure({
      async fail() {
        end = await keepBusy(scene.cluster.redis);
      },
      heal: () => end(),
      says: /BUSY/,
    });
    await scene.cluster.stopCleanly();
  });

  it("[D17] a script does not end while a node starts: it waits, and comes up when it can", async () => {
    let end: () => Promise<unknown> = async () => {};
    const cluster = await startCluster({
      nodes: 1,
      notReady: true,
      redisArgs: BUSY_SOON,
      async beforeNodes(redis) {
        end = await keepBusy(redis);
      },
    });
    const node = cluster.node(1);
    await until("it says what it waits for", () => node.log.some(({ err }) => String(err).includes("BUSY")));
    expect(await node.readyz()).to.equal(503);
    await end();
    await node.ready();
    expect(node.stderr).to.equal("");
  });

  it("[D17] the password is wrong: the node waits and says so, in one line", async () => {
    const cluster = await startCluster({
      nodes: 1,
      notReady: true,
      beforeNodes: async (redis) => {
        await redis.client().config("SET", "requirepass", "another");
      },
    });
    const node = cluster.node(1);
    const said = () => node.log.filter(({ level }) => Number(level) >= 40);
    await until("it says what it waits for", () => said().length > 0);
    expect(said().map(({ err }) => String(err).split(" ")[1])).to.deep.equal(["NOAUTH"]);
    expect(node.alive).to.equal(true);
    expect(await node.readyz()).to.equal(503);
  });

  it("[D2][D12][D17] it is started again, and takes seconds to load its data", async () => {
    const loadsFor = ["--key-load-delay", "1000", "--loading-process-events-interval-bytes", "1024"];
    const scene = await Scene.open({
      redisArgs: ["--appendonly", "yes", "--appendfsync", "always", ...loadsFor],
    });
    const { redis } = scene.cluster;
    const client = redis.client();
    const much = client.pipeline();
    for (let n = 0; n < 3000; n++) much.set(`filler:${n}`, "x".repeat(100));
    await much.exec();
    await client.bgrewriteaof();
    await until("it stands in the file", async () =>
      String(await client.info("persistence")).includes("aof_rewrite_in_progress:0"),
    );
    let loaded: Promise<void> = Promise.resolve();
    await scene.endure({
      async fail() {
        loaded = redis.restart();
        await until("it loads", () =>
          redis
            .client(AS_IT_IS)
            .ping()
            .then(
              () => false,
              (error) => error.message.startsWith("LOADING"),
            ),
        );
      },
      heal: () => loaded,
      refusals: 30,
    });
    await scene.cluster.stopCleanly();
  });

  it("[D2][D12][D17] it cannot save, and takes nothing until it can", async () => {
    const scene = await Scene.open();
    const client = scene.cluster.client();
    const [, folder = ""] = (await client.config("GET", "dir")) as string[];
    // In the place of its file stands a folder that is not empty.
    const obstacle = join(folder, "dump.rdb");
    const saved = (status: string) =>
      until(`the last save was ${status}`, async () => {
        const info = String(await client.info("persistence"));
        if (info.includes("rdb_bgsave_in_progress:0")) {
          if (info.includes(`rdb_last_bgsave_status:${status}`)) return true;
          await client.bgsave().catch(() => {});
        }
        return false;
      });
    await scene.endure({
      async fail() {
        await mkdir(join(obstacle, "something"), { recursive: true });
        await client.config("SET", "save", "3600 1000000");
        await saved("err");
      },
      async heal() {
        await rm(obstacle, { recursive: true });
        await saved("ok");
      },
      says: /MISCONF/,
    });
    await scene.cluster.stopCleanly();
  });
});
