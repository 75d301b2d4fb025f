import { randomBytes } from "node:crypto";
import { setTimeout as pause } from "node:timers/promises";
import { AGENTS_NAMESPACE, compareSequence } from "@agentwire/shared";
import { expect } from "chai";
import { WebSocket } from "ws";
import { startCluster, UNLIMITED } from "../harness/cluster.js";
import { burst, idsOf, type Published, publishOne, startFlood } from "../harness/flood.js";
import { Ledger } from "../harness/ledger.js";
import { liveBytes, MEASURED } from "../harness/memory.js";
import { onTeardown } from "../harness/teardown.js";
import { token } from "../harness/token.js";
import { Viewer, type ViewerOptions } from "../harness/viewer.js";
import { until } from "../harness/wait.js";
import { openWire } from "../harness/wire.js";

const OTHERS = 99;
const MIB = 1_048_576;
/** What one viewer that does not read may cost its node. */
const COST = 2 * MIB;

/** Texts that no compression makes smaller by much, about as long as they may be. */
const long = randomBytes(12_000).toString("base64");
const longText = (n: number) => `${n} ${long}`;

function watch(url: string, options: ViewerOptions): Ledger {
  const viewer = new Viewer(url, options);
  onTeardown(() => {
    viewer.socket.disconnect();
  });
  return new Ledger(viewer);
}

/** How long after their publish these came, of every twentieth the shortest (ms). */
function p95(ledgers: Ledger[], published: Published[]): number {
  const called = new Map(published.map((one) => [one.sequence_id, one.called]));
  const waits = ledgers.flatMap(({ changes }) =>
    changes.flatMap(({ id, at }) => (called.has(id) ? [at - (called.get(id) as number)] : [])),
  );
  return waits.sort((a, b) => a - b)[Math.floor(waits.length * 0.95)] ?? 0;
}

describe("a viewer that does not read", () => {
  for (const transport of ["websocket", "polling"]) {
    it(`[D21] over ${transport}: it costs its node 2 MiB at most, the ${OTHERS} others lose nothing, and when it reads again it gets everything`, async function () {
      this.timeout(120_000);
      const cluster = await startCluster({ nodes: 1, settings: MEASURED });
      const node = cluster.node(1);
      const wire = await openWire(node);
      const slow = watch(wire.url, {
        user: "slow",
        projects: ["p1", "p2"],
        socket: { transports: [transport], perMessageDeflate: false } as ViewerOptions["socket"] & object,
      });
      const others = Array.from({ length: OTHERS }, (_, n) => watch(node.url, { user: `user-${n % 10}` }));
      await Promise.all([slow, ...others].map(({ viewer }) => viewer.joined()));

      const worker = cluster.worker();
      const small = startFlood(worker, { perSecond: 45 });
      // Only the slow one sees these; all of it is below what one connection may get.
      const large = startFlood(worker, { perSecond: 40, project_id: "p2", message: longText });
      const further = (count: number) => {
        const enough = small.published.length + count;
        return until(`${count} events more`, () => small.published.length >= enough);
      };
      await further(90);
      const base = await liveBytes(node);
      /** The most that the node holds in this time. Asking holds it up, so it is asked as often with and without. */
      const most = async (samples: number): Promise<number> => {
        let peak = 0;
        for (let n = 0; n < samples; n++) {
          await further(30);
          peak = Math.max(peak, (await liveBytes(node)) - base);
        }
        return peak;
      };
      const asked = small.published.length;
      const drift = await most(6);
      const before = small.published.slice(asked);
      wire.hold();
      const peak = await most(24);
      const during = small.published.slice(asked + before.length);
      wire.release();
      await slow.viewer.sees("it is told what it missed", () => slow.replays.length > 0);
      const published = [...(await small.stop()), ...(await large.stop())].sort((a, b) =>
        compareSequence(a.sequence_id, b.sequence_id),
      );

      const due = idsOf(published);
      await slow.viewer.has(due);
      await slow.viewer.sees("the end of the refill", () => !slow.replaying);
      expect(slow.skipped(due)).to.equal(undefined);
      expect(slow.changes.map(({ id }) => id)).to.deep.equal(due);
      expect(slow.live.length + slow.announced, "delivered and announced").to.equal(due.length);
      expect(
        slow.drops.every(({ recoverable, reason }) => recoverable && reason === "backpressure"),
      ).to.equal(true);
      expect(slow.outsideOfRanges(due)).to.deep.equal([]);
      expect(slow.replays.every(({ complete }) => complete)).to.equal(true);
      expect(slow.miscounts).to.deep.equal([]);
      expect(slow.viewer.connects).to.deep.equal([false]);
      expect(slow.announced, "it was slow for long enough").to.be.greaterThan(500);

      const seen = idsOf(small.published);
      for (const { viewer, changes, drops } of others) {
        await viewer.has(seen);
        expect(changes.map(({ id }) => id)).to.deep.equal(seen);
        expect(drops).to.deep.equal([]);
      }
      if (process.env.FIGURES) {
        console.log(
          `      peak ${(peak / MIB).toFixed(2)} MiB, drift ${(drift / MIB).toFixed(2)} MiB; ` +
            `P95 of the others ${p95(others, before).toFixed(2)} ms before, ${p95(others, during).toFixed(2)} ms during`,
        );
      }
      expect((peak - drift) / MIB, "MiB that it cost").to.be.at.most(COST / MIB);
    });
  }

  it("[D21] what waits counts with what it holds in memory, however small it becomes on the line", async () => {
    const cluster = await startCluster({ nodes: 1, settings: { ...UNLIMITED, ...MEASURED } });
    const node = cluster.node(1);
    const wire = await openWire(node);
    const slow = watch(wire.url, {});
    await slow.viewer.joined();
    const worker = cluster.worker();
    await slow.viewer.has(idsOf(await burst(worker, 10)));
    const base = await liveBytes(node);
    wire.hold();
    const first: Published[] = [];
    await until("the network takes no more, and something waits", async () => {
      first.push(...(await burst(worker, 20, { message: longText })));
      const waits = async () => (await liveBytes(node)) - base > MIB / 2;
      if (!(await waits())) return false;
      // What is only on its way is gone by then.
      await pause(500);
      return waits();
    });
    let peak = 0;
    const critical: Published[] = [];
    const change = { agent_id: "a-critical", project_id: "p1", new_status: "failed" as const };
    for (let n = 0; n < 400; n++) {
      critical.push(await publishOne(worker, { ...change, message: `${n} ${"=".repeat(16_000)}` }));
      if (n % 50 === 49) peak = Math.max(peak, (await liveBytes(node)) - base);
    }
    wire.release();
    await slow.viewer.has(idsOf([...first, ...critical]));
    await slow.viewer.sees("the end of the refill", () => !slow.replaying);
    if (process.env.FIGURES) console.log(`      peak ${(peak / MIB).toFixed(2)} MiB, ${first.length} before`);
    expect(slow.replays.every(({ complete }) => complete)).to.equal(true);
    expect(peak / MIB, "MiB that it cost").to.be.at.most(COST / MIB);
  });
});

/** What a client can ask for without end. Each is one WebSocket message. */
const ids = Array.from({ length: 50 }, (_, n) => `${n}${"x".repeat(120)}`);
const questions: [what: string, ask: (n: number) => string][] = [
  [
    "SUBSCRIBE that is accepted",
    (n) => `42${AGENTS_NAMESPACE},${n}["SUBSCRIBE",${JSON.stringify({ agent_ids: ids })}]`,
  ],
  ["SUBSCRIBE that is refused", (n) => `42${AGENTS_NAMESPACE},${n}["SUBSCRIBE",{"project_ids":["foreign"]}]`],
  ["SUBSCRIBE without an acknowledgement", () => `42${AGENTS_NAMESPACE},["SUBSCRIBE",7]`],
  ["unknown events", (n) => `42${AGENTS_NAMESPACE},${n}["NOPE"]`],
  ["unknown events without an acknowledgement", () => `42${AGENTS_NAMESPACE},["NOPE"]`],
  ["unknown namespaces", () => "40/nope,"],
];

describe("a client that asks and does not read the answers", () => {
  /** With what the node needs to learn to refuse, which it keeps. */
  const LIMIT = 16 * MIB;
  const SENT = 300_000;

  for (const [what, ask] of questions) {
    it(`[D21] ${what}: it is closed, and costs its node little`, async function () {
      this.timeout(120_000);
      const cluster = await startCluster({ nodes: 1, settings: MEASURED });
      const node = cluster.node(1);
      const good = await (await cluster.viewer({ user: "good" })).joined();
      const base = await liveBytes(node);

      const query = new URLSearchParams({ EIO: "4", transport: "websocket", token: token("bad", ["p1"]) });
      const bad = new WebSocket(`ws://127.0.0.1:${node.port}/socket.io/?${query}`, {
        perMessageDeflate: false,
      });
      onTeardown(() => bad.terminate());
      bad.on("error", () => {});
      await new Promise<void>((resolve, reject) => {
        bad.on("message", (data: Buffer) => {
          const text = data.toString();
          if (text.startsWith("0")) bad.send(`40${AGENTS_NAMESPACE},`);
          if (text.includes('"SNAPSHOT"')) resolve();
        });
        bad.on("close", () => reject(new Error("it was closed before it began")));
      });
      bad.pause();
      const client = cluster.client();
      const open = async () => (await client.exists(cluster.keys.userConnections("bad"))) === 1;
      expect(await open()).to.equal(true);

      let peak = 0;
      let sent = 0;
      for (let is = true; is && sent < SENT && peak < LIMIT; is = await open()) {
        for (const end = sent + 5000; sent < end; sent++) bad.send(ask(sent));
        // The node takes as much as it likes, and no more than that is under way.
        await until("what was asked has left", () => bad.bufferedAmount === 0 || bad.readyState !== bad.OPEN);
        peak = Math.max(peak, (await liveBytes(node)) - base);
      }
      const { sequence_id } = await cluster.worker().agentStatus({
        agent_id: "a1",
        project_id: "p1",
        new_status: "working",
      });
      await good.has([sequence_id]);
      if (process.env.FIGURES)
        console.log(`      open ${await open()} after ${sent}, peak ${(peak / MIB).toFixed(2)} MiB`);
      expect(peak / MIB, `MiB that it cost after ${sent}`).to.be.below(LIMIT / MIB);
      expect(await open(), `open after ${sent}`).to.equal(false);
    });
  }
});
