import { expect } from "chai";
import { startCluster } from "../harness/cluster.js";
import { liveBytes, MEASURED } from "../harness/memory.js";
import { Scene } from "../harness/outage.js";
import { until } from "../harness/wait.js";

describe("a Redis that hangs", () => {
  it("[D2][D12][D17] SIGSTOP: everybody is told within a second, viewers stay, and afterwards nothing is missing or there twice", async () => {
    const scene = await Scene.open();
    const { redis } = scene.cluster;
    await scene.endure({ fail: () => redis.pause(), heal: () => redis.resume() });
    await scene.cluster.stopCleanly();
  });

  it("[D2] services that go on publishing are each answered 503 within a second, and pile up nothing", async () => {
    const cluster = await startCluster({ nodes: 1, settings: MEASURED });
    const node = cluster.node(1);
    const body = {
      event_type: "AGENT_STATUS_CHANGED",
      agent_id: "a1",
      project_id: "p1",
      payload: { new_status: "working", message: "x".repeat(16_000) },
    };
    expect((await cluster.post(body)).status).to.equal(202);
    const base = await liveBytes(node);
    cluster.redis.pause();
    let slowest = 0;
    const post = async () => {
      const began = performance.now();
      const { status } = await cluster.post(body);
      slowest = Math.max(slowest, performance.now() - began);
      return status;
    };
    // 64 MB of text in all: more than may be left of it.
    for (let round = 0; round < 40; round++) {
      const statuses = await Promise.all(Array.from({ length: 100 }, post));
      expect(new Set(statuses)).to.deep.equal(new Set([503]));
    }
    expect(slowest, "ms").to.be.below(5000);
    const left = (await liveBytes(node)) - base;
    expect(left / 1_048_576, "MiB left").to.be.below(8);
    cluster.redis.resume();
    await until("publishing works again", async () => (await post()) === 202);
  });

  it("[D17] a node that is stopped meanwhile ends in time", async () => {
    const cluster = await startCluster({ nodes: 1 });
    const viewer = await (await cluster.viewer()).joined();
    cluster.redis.pause();
    await viewer.sees("it is told", () => viewer.payloads("ERROR").length > 0);
    const began = performance.now();
    await cluster.node(1).stop();
    expect(cluster.node(1).exitCode).to.equal(0);
    expect(performance.now() - began).to.be.below(10_000);
  });
});
