import type { SequenceId } from "@agentwire/shared";
import { expect } from "chai";
import { type Cluster, startCluster, UNLIMITED } from "../harness/cluster.js";
import { startPublishing } from "../harness/confirmations.js";
import { needs } from "../harness/needs.js";
import { type RedisClusterSetup, startRedisCluster } from "../harness/redis-cluster.js";
import { type SentinelSetup, startSentinels } from "../harness/sentinel.js";
import type { Viewer } from "../harness/viewer.js";
import { until } from "../harness/wait.js";

/** Far above what it takes on a quiet machine, which is printed. */
const LONGEST_OUTAGE_MS = 15_000;
const LONGEST_REFUSAL_MS = 2000;

type Failing = SentinelSetup | RedisClusterSetup;

/** Every viewer has each of these, or was told that it does not have everything. */
async function nothingLostSilently(viewers: Viewer[], published: SequenceId[]): Promise<void> {
  for (const viewer of viewers) {
    await viewer.sees("all of it, or that something is missing", () => {
      const has = new Set(viewer.log);
      const told = viewer.payloads("REPLAY_END").some(({ complete }) => !complete);
      return told || published.every((id) => has.has(id));
    });
  }
}

/** Events flow, the primary fails, events flow again: what came of it. */
async function throughFailover(cluster: Cluster<Failing>, fail: () => Promise<unknown>) {
  const viewers = await Promise.all([1, 2].map((on) => cluster.viewer({ on, user: `user-${on}` })));
  await Promise.all(viewers.map((viewer) => viewer.joined()));
  const before = await cluster.redis.primary();
  const load = startPublishing(cluster.worker(), 500);
  await until("events flow", () => load.confirmed.length > 500);
  await fail();
  for (const viewer of viewers)
    await viewer.sees("it is told", () => viewer.payloads("ERROR").some(({ code }) => code === "DEGRADED"));
  await cluster.redis.switchedFrom(before);
  const confirmed = load.confirmed.length;
  await until("publishes are confirmed again", () => load.confirmed.length > confirmed + 500);
  for (const node of cluster.nodes) await until("ready again", async () => (await node.readyz()) === 200);
  return { viewers, load };
}

async function judge(
  cluster: Cluster<Failing>,
  { viewers, load }: Awaited<ReturnType<typeof throughFailover>>,
) {
  const published = await load.stop();
  await nothingLostSilently(viewers, published);
  // What comes after all of it comes live, on both nodes.
  const last = await cluster
    .worker()
    .agentStatus({ agent_id: "a1", project_id: "p1", new_status: "working" });
  for (const viewer of viewers) {
    await viewer.has([last.sequence_id]);
    expect(viewer.connects, "the same connection").to.deep.equal([false]);
  }
  const outage = Math.round(load.outage());
  const slowest = Math.round(Math.max(0, ...load.refusals.map(({ took }) => took)));
  console.log(`      longest time without a confirmed publish ${outage} ms, slowest refusal ${slowest} ms`);
  expect(outage).to.be.below(LONGEST_OUTAGE_MS);
  expect(slowest).to.be.below(LONGEST_REFUSAL_MS);
  for (const { code } of load.refusals) expect(code).to.equal("UNAVAILABLE");
  expect(cluster.nodes.map((node) => node.alive)).to.deep.equal([true, true]);
  await cluster.stopCleanly();
}

/** Each of them loses its primary, in each of three ways. */
function survives<R extends Failing>(start: () => Promise<Cluster<R>>): void {
  it("[D17][D2][D9] kill -9 under 500 events/s: nodes go on with the new primary, viewers stay, nothing is lost silently", async () => {
    const cluster = await start();
    const after = await throughFailover(cluster, () => cluster.redis.killPrimary());
    await judge(cluster, after);
  });

  it("[D17][D2][D9] it hangs, and comes back as a stale primary: the same", async () => {
    const cluster = await start();
    const old = await cluster.redis.primary();
    const after = await throughFailover(cluster, () => cluster.redis.pausePrimary());
    old.resume();
    const client = old.client();
    await until("it is a replica", async () => (await client.info("replication")).includes("role:slave"));
    await judge(cluster, after);
  });

  it("[D17][D9] an operator's failover, both servers alive: the same", async () => {
    const cluster = await start();
    const after = await throughFailover(cluster, () => cluster.redis.failover());
    await judge(cluster, after);
  });
}

describe("a primary behind Sentinels that fails", () => {
  needs("REDIS");
  const start = () => startCluster<SentinelSetup>({ nodes: 2, redis: startSentinels, settings: UNLIMITED });
  survives(start);

  it("[D17][D2][D9] cut off from Sentinels and replicas, and alive: it takes no more events, and nodes and workers leave it", async () => {
    const cluster = await start();
    let heal: (() => Promise<unknown>) | undefined;
    const after = await throughFailover(cluster, async () => {
      heal = await cluster.redis.cutOffPrimary();
    });
    await judge(cluster, after);
    await heal?.();
  });
});

describe("a server of a Redis Cluster that fails", () => {
  needs("REDIS");
  survives(() =>
    startCluster<RedisClusterSetup>({ nodes: 2, redis: startRedisCluster, settings: UNLIMITED }),
  );
});
