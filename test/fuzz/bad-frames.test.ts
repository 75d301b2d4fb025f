import { expect } from "chai";
import { startCluster } from "../harness/cluster.js";
import { idsOf, startFlood } from "../harness/flood.js";
import { liveBytes, MEASURED } from "../harness/memory.js";
import { openPolling, tryWebSocket } from "../harness/raw-client.js";
import { onTeardown } from "../harness/teardown.js";
import { token } from "../harness/token.js";
import { until } from "../harness/wait.js";
import { createMaker } from "./frame-maker.js";
import { judgeBody, judgeBytes, type Situation } from "./frame-oracle.js";
import { createRandom } from "./random.js";

const SEED = Number(process.env.FRAMES_SEED ?? Date.now() % 1_000_000_000);
/** Two cores take about a minute and a half for them. */
const FRAMES = Number(process.env.FRAMES ?? 100_000);
const MIB = 1_048_576;
/** What the node may keep, having learned in the first tenth what it needs to refuse. */
const GROWTH = 50 * MIB;
const AT_ONCE = 48;
const JOINED = 0.05;
const POLLING = 0.15;

describe("bad frames", () => {
  it(`[D13] ${FRAMES} of them, FRAMES_SEED=${SEED}: each bad connection is closed, the node lives on as before, and a viewer beside them loses nothing`, async function () {
    this.timeout(60_000 + FRAMES * 5);
    const cluster = await startCluster({ nodes: 1, settings: MEASURED });
    const node = cluster.node(1);
    const { pid } = node;
    const viewer = await (await cluster.viewer({ user: "healthy" })).joined();
    const load = startFlood(cluster.worker(), { perSecond: 20 });
    onTeardown(async () => {
      await load.stop();
    });

    const random = createRandom(SEED);
    const maker = createMaker(random);
    const tokens = Array.from({ length: 50 }, (_, n) => token(`fuzz-${n}`, ["p1"]));
    const tryPolling = openPolling(node.port, AT_ONCE);
    const counts: Record<string, number> = {};
    const wrong: string[] = [];

    const tryOne = async (n: number): Promise<void> => {
      const polling = random.chance(POLLING);
      const situation: Situation = {
        joined: random.chance(JOINED),
        encoding: random.chance(0.5) ? "json" : "messagepack",
      };
      const { what, bytes } = polling ? maker.polling(situation) : maker.webSocket(situation);
      const verdict = polling ? judgeBody(bytes, situation) : judgeBytes(bytes, situation);
      counts[verdict] = (counts[verdict] ?? 0) + 1;
      if (verdict === "unknown") return;
      const attempt = { ...situation, bytes, alive: verdict === "good" };
      const sender = tokens[n % tokens.length] as string;
      const outcome = await (polling
        ? tryPolling(sender, attempt)
        : tryWebSocket(node.port, sender, attempt));
      if (outcome.closed !== (verdict !== "good") || (verdict === "told" && !outcome.told))
        wrong.push(
          `${n}, ${what}, ${JSON.stringify(situation)}: ${verdict} by the rules, ${JSON.stringify(outcome)}: ` +
            `${polling ? JSON.stringify(bytes.toString()) : bytes.toString("hex")}`,
        );
    };
    let next = 0;
    const tryUpTo = async (end: number): Promise<void> => {
      const worker = async () => {
        while (next < end && wrong.length < 5) await tryOne(next++);
      };
      await Promise.all(Array.from({ length: AT_ONCE }, worker));
      expect(wrong.join("\n")).to.equal("");
    };
    const held = async () => {
      const live = await liveBytes(node);
      const rss = node.log.findLast(({ msg }) => msg === "memory")?.rss as number;
      return { live, rss };
    };

    const began = performance.now();
    await tryUpTo(FRAMES / 10);
    const before = await held();
    await tryUpTo(FRAMES);
    const took = performance.now() - began;
    await until("only the healthy viewer is left", async () => {
      return (await cluster.client().keys("ws:connections:user:*")).length === 1;
    });
    // What was garbage for a moment goes back to the system little by little.
    const after = await until("the process is as small as before", async () => {
      const now = await held();
      return now.rss - before.rss < GROWTH && now;
    });
    const published = idsOf(await load.stop());
    await viewer.has(published);

    if (process.env.FIGURES)
      console.log(
        `      ${(took / 1000).toFixed(1)} s, ${JSON.stringify(counts)}, live ${((after.live - before.live) / MIB).toFixed(1)} MiB, ` +
          `RSS ${(before.rss / MIB).toFixed(1)} to ${(after.rss / MIB).toFixed(1)} MiB`,
      );
    expect(counts.unknown ?? 0, "not judged").to.be.below(FRAMES * 0.1);
    expect(node.pid).to.equal(pid);
    expect(node.alive).to.equal(true);
    expect(await node.readyz()).to.equal(200);
    expect(node.stderr).to.equal("");
    expect(node.log.filter((line) => /unhandled|uncaught/i.test(JSON.stringify(line)))).to.deep.equal([]);
    expect(node.log.filter(({ level }) => Number(level) >= 50)).to.deep.equal([]);
    expect((after.live - before.live) / MIB, "MiB more on the heap").to.be.below(GROWTH / MIB);
    expect(idsOf(viewer.raw)).to.deep.equal(published);
    expect(viewer.connects).to.deep.equal([false]);
    expect(viewer.disconnects).to.equal(0);
  });
});
