import { setTimeout as pause } from "node:timers/promises";
import { expect } from "chai";
import { expectPace, expectWithin, type ShareNode, shareCluster } from "../harness/share-nodes.js";
import { until } from "../harness/wait.js";

const SECOND = 1000;

describe("share of the cluster's limit", () => {
  describe("with a Redis", () => {
    const { start, granted } = shareCluster();

    it("[D20] under full demand: in no second more than the limit, over five seconds at least 98 % of it", async () => {
      const limit = 10_000;
      const nodes = await start(limit, [2000, 2000, 2000]);
      for (const node of nodes) node.flood(1000);
      await until("each has sent", () => nodes.every((node) => node.sent.length > limit / 4));
      await expectPace(limit, 5, nodes);
      expectWithin(limit, nodes);
    });

    it("[D20] one node floods and the others are quiet: it gets nearly all", async () => {
      const limit = 5000;
      const nodes = await start(limit, [100, 100, 100]);
      const [busy] = nodes as [ShareNode];
      await until("all have a share", async () => (await granted()).size === 3);
      const began = performance.now();
      busy.flood(100);
      await pause(2 * SECOND);
      expect(busy.between(began, began + 2 * SECOND), "while the others give theirs back").to.be.at.least(
        limit,
      );
      await expectPace(0.97 * limit, 2, [busy]);
      expectWithin(limit, nodes);
    });

    it("[D20] each connection that waits gets about the same, on whichever node it is", async () => {
      const limit = 4000;
      const nodes = await start(limit, [400, 100, 100]);
      const waiting = [300, 70, 30];
      const counts = nodes.map((node, n) => node.flood(waiting[n] ?? 0));
      await pause(1500);
      const each = limit / 400;
      await Promise.all(nodes.map((node, n) => expectPace(0.85 * each * (waiting[n] ?? 0), 3, [node])));
      for (const count of counts) expect(Math.max(...count) - Math.min(...count)).to.be.at.most(1);
      expectWithin(limit, nodes);
    });

    it("[D20] the limit moves with the demand, and no transient exceeds it", async () => {
      const limit = 2000;
      const nodes = await start(limit, [100, 100, 100]);
      for (let round = 0; round < 12; round++) {
        for (const [n, node] of nodes.entries()) {
          node.calm();
          if ((round + n) % 3 !== 0) node.flood(1 + 40 * ((round * n) % 3));
          else node.burst();
        }
        await pause(150 + 90 * (round % 4));
      }
      expectWithin(limit, nodes);
    });
  });
});
