import { expect } from "chai";
import { startCluster, UNLIMITED } from "../harness/cluster.js";
import { startLoad } from "../harness/load.js";
import { registryHas } from "../harness/registry.js";

describe("a killed node", () => {
  it("[D7][D5] kill -9 of a node with 50 viewers at 200 events/s: all resume elsewhere, none lost, none twice", async () => {
    const cluster = await startCluster({ nodes: 2, settings: UNLIMITED });
    const viewers = await Promise.all(
      Array.from({ length: 50 }, (_, n) => cluster.viewer({ on: 1, user: `user-${n % 10}` })),
    );
    await Promise.all(viewers.map((viewer) => viewer.joined()));
    const load = startLoad(cluster.worker(), { perSecond: 200 });
    await viewers[0]?.sees("events flow", ({ raw }) => raw.length > 100);

    await cluster.node(1).kill();
    const killedAt = load.published.length;
    await Promise.all(viewers.map((one) => one.sees("it is back", ({ connects }) => connects.length === 2)));
    await viewers[0]?.sees("events flow on", () => load.published.length > killedAt + 200);
    const published = (await load.stop()).map(({ sequence_id }) => sequence_id);

    for (const viewer of viewers) {
      await viewer.has(published);
      expect(viewer.connects).to.deep.equal([false, true]);
      expect(viewer.log).to.have.length(published.length);
      // One more where a busy machine made it slow.
      expect(viewer.payloads("REPLAY_END").length).to.be.at.least(1);
      expect(viewer.payloads("REPLAY_END").every(({ complete }) => complete)).to.equal(true);
      // What comes twice came twice because the network lost it on its way, never within one connection.
      expect(viewer.raw.length - viewer.log.length).to.equal(0);
    }
    await registryHas(cluster, () => viewers.map(({ connectionId }) => connectionId));
    await cluster.stopCleanly();
  });
});
