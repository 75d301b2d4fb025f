import { setTimeout as pause } from "node:timers/promises";
import { compareSequence, type SequenceId } from "@agentwire/shared";
import { expect } from "chai";
import { type Cluster, startCluster } from "../harness/cluster.js";
import { burst, idsOf, type Published, publishOne, startFlood } from "../harness/flood.js";
import { Ledger, quickest } from "../harness/ledger.js";
import { watchStalls } from "../harness/stalls.js";
import { onTeardown } from "../harness/teardown.js";
import { Viewer, type ViewerOptions } from "../harness/viewer.js";
import { until } from "../harness/wait.js";

/** How long the flood lasts; npm test takes a short one. */
const FLOOD_SECONDS = Number(process.env.FLOOD_SECONDS ?? 3);
/** Between a message's place in the node's window and when this process sees it (ms): this machine does other things. */
const JITTER_MS = 200;

/** A viewer with nothing between it and its node, whose books are kept. */
async function watch(cluster: Cluster, { on = 1, ...options }: ViewerOptions & { on?: number } = {}) {
  const viewer = new Viewer(cluster.node(on).url, options);
  onTeardown(() => {
    viewer.socket.disconnect();
  });
  const ledger = new Ledger(viewer);
  await viewer.joined();
  return ledger;
}

/** Waits until it has everything, and no refill is under way. */
async function settled(ledger: Ledger, ids: SequenceId[], deadlineMs = 45_000): Promise<void> {
  const due = new Set(ids);
  let looked = 0;
  const done = () => {
    for (; looked < ledger.changes.length; looked++) due.delete(ledger.changes[looked]?.id as SequenceId);
    return due.size === 0 && !ledger.replaying;
  };
  await until(`${ids.length} events, and the end of the refill`, done, deadlineMs).catch((error) => {
    const books = `${ledger.announced} announced, replays ${JSON.stringify(ledger.replays)}`;
    throw new Error(`${error.message}: ${due.size} of them are missing, ${books}`);
  });
}

/** Whatever was dropped on the way: everything came, and the books say so exactly. */
function expectExact(ledger: Ledger, due: SequenceId[]): void {
  expect(ledger.viewer.log).to.deep.equal(due);
  expect(ledger.skipped(due)).to.equal(undefined);
  const live = new Set(ledger.live.map(({ id }) => id));
  expect(live.size + ledger.announced, "delivered and announced").to.equal(due.length);
  expect(ledger.drops.every(({ recoverable }) => recoverable)).to.equal(true);
  expect(ledger.outsideOfRanges(due), "announced without its range").to.deep.equal([]);
  expect(ledger.replays.every(({ complete }) => complete)).to.equal(true);
  expect(ledger.miscounts).to.deep.equal([]);
  const seen = new Set<SequenceId>();
  const twice = ledger.changes.filter(({ id }) => seen.size === seen.add(id).size);
  expect(
    twice.filter(({ urgent }) => !urgent),
    "only what overtook others comes again, in its place",
  ).to.deep.equal([]);
}

const timesOf = (ledger: Ledger): number[] =>
  ledger.changes.filter(({ urgent }) => !urgent).map(({ at }) => at);

/** In no second, and in no three, did more come than the limit, as far as that can be seen from here. */
function expectWithin(limit: number, times: number[], stalledMs: number): void {
  for (const seconds of [1, 3]) {
    const many = seconds * limit;
    const took = quickest(times, many + 1);
    expect(took, `ms for ${many + 1} messages`).to.be.at.least(1000 * seconds - JITTER_MS - stalledMs);
  }
}

const countBetween = (ledger: Ledger, from: number, to: number): number =>
  timesOf(ledger).filter((at) => at >= from && at < to).length;

const firstOf = (ledger: Ledger, { sequence_id }: Published) =>
  ledger.changes.find(({ id }) => id === sequence_id);
const waitOf = (ledger: Ledger, published: Published): number =>
  (firstOf(ledger, published)?.at ?? Number.POSITIVE_INFINITY) - published.called;
const median = (numbers: number[]): number =>
  [...numbers].sort((a, b) => a - b)[Math.floor(numbers.length / 2)] as number;

/** Events that a refill reads at once. */
const PAGE = 25;

describe("limits", () => {
  it("[D20][D21] flooded with 500 events/s: CRITICAL ones come at once, others at 100/s, the rest is announced and refilled", async function () {
    this.timeout(60_000 + FLOOD_SECONDS * 10_000);
    const cluster = await startCluster({ nodes: 1 });
    const flooded = await watch(cluster, { user: "anna", projects: ["p1"] });
    const calm = await watch(cluster, { user: "ben", projects: ["p2"] });
    const stalls = watchStalls();
    const flood = startFlood(cluster.worker(), { perSecond: 500 });
    const other = cluster.worker();
    const failed = { agent_id: "a-critical", new_status: "failed" as const };
    const critical: { flooded: Published; calm: Published }[] = [];
    for (let n = 1; n <= 9; n++) {
      const published = (n * FLOOD_SECONDS * 500) / 10;
      await until(`${published} events`, () => flood.published.length >= published);
      critical.push({
        calm: await publishOne(other, { ...failed, project_id: "p2" }),
        flooded: await publishOne(other, { ...failed, project_id: "p1" }),
      });
    }
    const published = await flood.stop();
    const urgent = critical.map((one) => one.flooded);
    const due = idsOf([...published, ...urgent]).sort(compareSequence);
    await settled(flooded, due, 30_000 + FLOOD_SECONDS * 10_000);

    expectExact(flooded, due);
    expect(flooded.announced).to.be.greaterThan(published.length / 2);
    for (const { event_type, reason } of flooded.drops)
      expect([event_type, reason]).to.deep.equal(["AGENT_STATUS_CHANGED", "rate_limit"]);
    expectWithin(100, timesOf(flooded), stalls.longest());

    // Each CRITICAL one overtook what had been published before it.
    for (const one of urgent) {
      const at = flooded.changes.findIndex(({ id }) => id === one.sequence_id);
      expect(flooded.changes[at]?.offset, "it says nothing about what it overtook").to.equal(undefined);
      const later = flooded.changes.slice(at + 1);
      expect(later.some(({ id }) => compareSequence(id, one.sequence_id) < 0)).to.equal(true);
    }
    // Promised: within 100 ms. One that this machine held up shows nothing.
    const waits = { flooded: median(urgent.map((one) => waitOf(flooded, one))), calm: 0 };
    waits.calm = median(critical.map((one) => waitOf(calm, one.calm)));
    expect(waits.flooded, `median (ms), where nobody is flooded ${waits.calm}`).to.be.below(
      100 + Math.max(0, waits.calm - 50),
    );
    expect(calm.drops).to.deep.equal([]);
  });

  it("[D5][D20] where no limit is reached nothing overtakes, not even in a node's first moments", async () => {
    const statuses = ["working", "failed", "idle", "stuck", "working"] as const;
    for (let n = 0; n < 3; n++) {
      const cluster = await startCluster({ nodes: 3 });
      const users = [1, 2, 3].map((on) => ({ on, user: `user-${on}` }));
      const ledgers = await Promise.all(users.map((one) => watch(cluster, one)));
      const worker = cluster.worker();
      const ids: SequenceId[] = [];
      for (const new_status of statuses)
        ids.push((await worker.agentStatus({ agent_id: "a1", project_id: "p1", new_status })).sequence_id);
      for (const ledger of ledgers) {
        await settled(ledger, ids);
        expect(ledger.changes.map(({ id }) => id)).to.deep.equal(ids);
        expect(ledger.changes.map(({ offset }) => offset)).to.deep.equal(ids);
      }
    }
  });

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
        0.9 * equal - PAGE,
      );
    }
  });

  it("[D20][D21] what waits longer than WS_QUEUE_TTL is dropped as expired, and refilled", async () => {
    const cluster = await startCluster({
      nodes: 1,
      settings: { WS_RATE_LIMIT_PER_CONNECTION: "20", WS_SEND_BUFFER_SIZE: "1000", WS_QUEUE_TTL: "1" },
    });
    const ledger = await watch(cluster);
    const ids = idsOf(await burst(cluster.worker(), 120));
    await settled(ledger, ids);
    expectExact(ledger, ids);
    expect(ledger.drops.map(({ reason }) => reason)).to.deep.equal(["expired"]);
    // 20 left at once, and 20 after one second. Whether the time is up is seen when the next ones may leave.
    expect(ledger.announced).to.be.within(50, 90);
    expectWithin(20, timesOf(ledger), 0);
  });

  it("[D20] a burst that comes at once keeps to the limit too: that the network takes one write at a time is no slow client", async () => {
    const cluster = await startCluster({ nodes: 1, settings: { WS_SEND_BUFFER_SIZE: "10" } });
    const users = Array.from({ length: 10 }, (_, n) => ({ user: `user-${n}` }));
    const ledgers = await Promise.all(users.map((one) => watch(cluster, one)));
    const stalls = watchStalls();
    const ids: SequenceId[] = [];
    for (let n = 0; n < 3; n++) {
      // The node finds all of it in one read.
      cluster.node(1).pause();
      ids.push(...idsOf(await burst(cluster.worker(), 200)));
      cluster.node(1).resume();
      await Promise.all(ledgers.map((ledger) => settled(ledger, ids)));
    }
    for (const ledger of ledgers) {
      expectWithin(100, timesOf(ledger), stalls.longest());
      expectExact(ledger, ids);
    }
  });

  it("[D21] the notices are exact also where refills end while events flow", async () => {
    const settings = { WS_RATE_LIMIT_PER_CONNECTION: "300", WS_SEND_BUFFER_SIZE: "10" };
    const cluster = await startCluster({ nodes: 1, settings });
    const ledger = await watch(cluster);
    const worker = cluster.worker();
    const flood = startFlood(worker, { perSecond: 120 });
    const bursts: Published[] = [];
    for (let n = 1; n <= 6; n++) {
      bursts.push(...(await burst(worker, 400, { agents: 50 })));
      const { length } = flood.published;
      await ledger.viewer.sees("the end of a refill", () => ledger.replays.length >= n && !ledger.replaying);
      await until("events flow on", () => flood.published.length > length + 30);
    }
    const ids = idsOf([...bursts, ...(await flood.stop())]).sort(compareSequence);
    await settled(ledger, ids);
    expectExact(ledger, ids);
  });

  it("[D4][D21] SUBSCRIBE while events wait: what came before its answer is judged by the filters before it, also when it is dropped and refilled", async () => {
    const cluster = await startCluster({
      nodes: 1,
      settings: { WS_RATE_LIMIT_PER_CONNECTION: "20", WS_SEND_BUFFER_SIZE: "1000", WS_QUEUE_TTL: "1" },
    });
    const ledger = await watch(cluster);
    const before = await burst(cluster.worker(), 100);
    await until("the limit is reached", () => ledger.changes.length >= 20);
    const { sequence_id: answered } = await ledger.viewer.subscribe({ agent_ids: ["p1-agent-1"] });
    const after = await burst(cluster.worker(), 10);
    const due = idsOf(
      [...before, ...after].filter(
        ({ sequence_id, agent_id }) =>
          compareSequence(sequence_id, answered as SequenceId) <= 0 || agent_id === "p1-agent-1",
      ),
    );
    await settled(ledger, due, 20_000);
    expect(ledger.viewer.log).to.deep.equal(due);
    expect(ledger.skipped(due)).to.equal(undefined);
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
