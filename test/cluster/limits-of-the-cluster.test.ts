import { setTimeout as pause } from "node:timers/promises";
import { expect } from "chai";
import { type Cluster, startCluster } from "../harness/cluster.js";
import { burst, idsOf, publishOne, startFlood } from "../harness/flood.js";
import type { Ledger } from "../harness/ledger.js";
import { expectExact, expectWithin, JITTER_MS, settled, timesOf, watch } from "../harness/limits-books.js";
import { watchStalls } from "../harness/stalls.js";
import { until } from "../harness/wait.js";

const countBetween = (ledger: Ledger, from: number, to: number): number =>
  timesOf(ledger).filter((at) => at >= from && at < to).length;

/** Events that a refill reads at once. */
const PAGE = 25;

describe("limits", () => {
  it("[D20] over the cluster: 200 connections on 3 nodes that each want more get 1,000/s together, and each its part", async function () {
    this.timeout(120_000);
    const limit = 1000;
    const cluster = await startCluster({
      nodes: 3,
      settings: { WS_RATE_LIMIT_GLOBAL: String(limit), WS_SEND_BUFFER_SIZE: "20" },
    });
    const users = Array.from({ length: 200 }, (_, n) => ({
      user: `user-${n}`,
      on: n < 120 ? 1 : n < 160 ? 2 : 3,
    }));
    const ledgers = await Promise.all(users.map((one) => watch(cluster, one)));
    const flood = startFlood(cluster.worker(), { perSecond: 20 });
    // When the queues are full, or too old, all fall behind at once; then each gets its refill, at the pace of the limit.
    const refilled = ({ changes }: Ledger) => changes.filter(({ replayed }) => replayed).length;
    await until(
      "everybody is in its refill",
      () => ledgers.every((ledger) => refilled(ledger) >= 10),
      60_000,
    );

    // And the shares of the nodes have followed that.
    await pause(3000);

    // Long against a page of a refill: a connection may get one in a burst, while others wait for theirs to be read.
    const SPAN_MS = 12_000;
    const stalls = watchStalls();
    const begin = performance.now();
    await pause(SPAN_MS + 1000);
    const stalled = stalls.total();
    await flood.stop();
    // What waits leaves in bursts about a second apart: a single stretch may begin or end within one, so it is the
    // median of stretches that begin at twenty places of a second.
    const stretches = Array.from({ length: 20 }, (_, n) => {
      const from = begin + n * 50;
      const counts = ledgers.map((ledger) => countBetween(ledger, from, from + SPAN_MS));
      return { counts, all: counts.reduce((a, b) => a + b) };
    }).sort((a, b) => a.all - b.all);
    const { counts, all } = stretches[10] as (typeof stretches)[number];
    const seconds = SPAN_MS / 1000;
    const what = `in ${seconds} s, of which this process stood still ${stalled} ms: least and most of one connection ${Math.min(...counts)}, ${Math.max(...counts)}; all stretches ${stretches.map((one) => one.all)}`;
    expect(all, what).to.be.at.most(limit * (seconds + JITTER_MS / 1000));
    expect(all, what).to.be.at.least(0.98 * limit * (seconds - stalled / 1000));
    expect(Math.min(...counts), what).to.be.at.least((0.8 * all) / counts.length);
  });

  it("[D20] over the cluster: who is refilled page by page takes no more than its part either", async () => {
    const limit = 100;
    const cluster = await startCluster({
      nodes: 1,
      settings: { WS_RATE_LIMIT_GLOBAL: String(limit), WS_SEND_BUFFER_SIZE: "10" },
    });
    const users = Array.from({ length: 5 }, (_, n) => ({ user: `user-${n}` }));
    const ledgers = await Promise.all(users.map((one) => watch(cluster, one)));
    const ids = idsOf(await burst(cluster.worker(), 300));
    await Promise.all(ledgers.map((ledger) => settled(ledger, ids)));
    for (const ledger of ledgers) expectExact(ledger, ids);

    const from = Math.min(...ledgers.map((ledger) => timesOf(ledger)[0] as number));
    for (const seconds of [5, 10]) {
      const counts = ledgers.map((ledger) => countBetween(ledger, from, from + seconds * 1000));
      const equal = counts.reduce((a, b) => a + b) / counts.length;
      // While the others read theirs from Redis, one may send a page in one go, and the next one too.
      expect(Math.min(...counts), `${counts.join(" ")} after ${seconds} s`).to.be.at.least(
        0.9 * equal - 2 * PAGE,
      );
    }
  });

  it("[D20] a limit of 0 is none: per connection, over the cluster, both", async () => {
    for (const [perConnection, global] of [
      ["0", "10000"],
      ["10000", "0"],
      ["0", "0"],
    ] as const) {
      const settings = { WS_RATE_LIMIT_PER_CONNECTION: perConnection, WS_RATE_LIMIT_GLOBAL: global };
      const cluster = await startCluster({
        nodes: 1,
        settings: { ...settings, WS_SEND_BUFFER_SIZE: "5000" },
      });
      const ledger = await watch(cluster);
      const ids = idsOf(await burst(cluster.worker(), 1000));
      await settled(ledger, ids);
      expect(ledger.changes.map(({ id }) => id)).to.deep.equal(ids);
      expect(ledger.drops).to.deep.equal([]);
      const asked = await cluster.client().exists(cluster.keys.rateLimitGlobal);
      expect(asked, "whether Redis is asked for a share").to.equal(global === "0" ? 0 : 1);
    }
  });

  it("[D20] and with a limit of the cluster lower than the connection's, that one counts; CRITICAL passes it", async () => {
    const cluster = await startCluster({ nodes: 2, settings: { WS_RATE_LIMIT_GLOBAL: "40" } });
    const ledgers = [
      await watch(cluster, { on: 1, user: "anna" }),
      await watch(cluster, { on: 2, user: "ben" }),
    ];
    const stalls = watchStalls();
    const worker = cluster.worker();
    const published = await burst(worker, 100);
    const failed = { agent_id: "a-critical", project_id: "p1", new_status: "failed" as const };
    const critical = await publishOne(worker, failed);
    const ids = [...idsOf(published), critical.sequence_id];
    await Promise.all(ledgers.map((ledger) => settled(ledger, ids)));
    for (const ledger of ledgers) {
      expectExact(ledger, ids);
      const at = ledger.changes.findIndex(({ id }) => id === critical.sequence_id);
      expect(at, "it overtook").to.be.below(80);
    }
    expectWithin(40, ledgers.flatMap(timesOf), stalls.longest());
  });

  for (const [what, away, back] of [
    ["killed", (cluster: Cluster) => cluster.redis.kill(), (cluster: Cluster) => cluster.redis.restart()],
    ["hanging", (cluster: Cluster) => cluster.redis.pause(), (cluster: Cluster) => cluster.redis.resume()],
  ] as const) {
    it(`[D20][D17] Redis ${what}: each node goes on with its part of the limit, and nothing hangs`, async () => {
      const limit = 40;
      const cluster = await startCluster({
        nodes: 2,
        settings: { WS_RATE_LIMIT_GLOBAL: String(limit), WS_QUEUE_TTL: "60", WS_SEND_BUFFER_SIZE: "1000" },
        redisArgs: ["--appendonly", "yes", "--appendfsync", "always"],
      });
      const ledgers = [1, 2].map((on) => watch(cluster, { on, user: `user-${on}` }));
      const [one, two] = (await Promise.all(ledgers)) as [Ledger, Ledger];
      const stalls = watchStalls();
      const ids = idsOf(await burst(cluster.worker(), 100));
      // They have all of it by now, and most of it waits.
      await Promise.all(
        [one, two].map((ledger) => ledger.viewer.sees("some of it", ({ raw }) => raw.length > 25)),
      );
      await away(cluster);
      for (const { viewer } of [one, two]) expect(viewer.raw.length).to.be.below(100);
      await Promise.all([settled(one, ids), settled(two, ids)]);
      for (const ledger of [one, two]) {
        expect(ledger.changes.map(({ id }) => id)).to.deep.equal(ids);
        expect(ledger.drops).to.deep.equal([]);
      }
      expectWithin(limit, [...timesOf(one), ...timesOf(two)], stalls.longest());
      for (const { viewer } of [one, two])
        await viewer.sees("that delivery is interrupted", () => viewer.payloads("ERROR").length > 0);

      await back(cluster);
      const worker = cluster.worker();
      const { sequence_id } = await until("Redis takes it", () =>
        worker
          .agentStatus({ agent_id: "a1", project_id: "p1", new_status: "working" })
          .catch(() => undefined),
      );
      await Promise.all([one, two].map(({ viewer }) => viewer.has([sequence_id])));
      for (const { viewer } of [one, two]) expect(viewer.connects).to.deep.equal([false]);
    });
  }
});
