import { setTimeout as pause } from "node:timers/promises";
import { expect } from "chai";
import { expectPace, expectWithin, type ShareNode, shareCluster, sum } from "../harness/share-nodes.js";
import { onTeardown } from "../harness/teardown.js";
import { until } from "../harness/wait.js";

const SECOND = 1000;

describe("share of the cluster's limit", () => {
  describe("with a Redis", () => {
    const cluster = shareCluster();
    const { start, granted } = cluster;

    it("[D20] a node that dies has its share until its lease ends; then the others have it", async () => {
      const limit = 3000;
      const nodes = await start(limit, [100, 100]);
      const [one, other] = nodes as [ShareNode, ShareNode];
      one.flood(100);
      other.flood(100);
      await until("half of it sent", () => one.sent.length > limit / 2 && other.sent.length > limit / 2);
      one.die();
      await until("the dead one is gone", async () => (await granted()).size === 1);
      await until("its share is the other's", async () => sum(await granted()) === limit);
      await expectPace(0.95 * limit, 1, [other]);
      expectWithin(limit, nodes);
    });

    it("[D20] a node that stops gives its share back, and leaves nothing in Redis", async () => {
      const nodes = await start(1000, [10, 10]);
      const [one, other] = nodes as [ShareNode, ShareNode];
      one.flood(10);
      other.flood(10);
      await until("both have sent", () => nodes.every((node) => node.sent.length > 300));
      await one.share.stop();
      const stopped = performance.now();
      expect([...(await granted()).keys()]).to.deep.equal(["node-1"]);
      expect(one.between(stopped - SECOND, stopped), "all it sent has left the window").to.equal(0);
      await other.share.stop();
      expect(await cluster.redis.client().exists(cluster.keys.rateLimitGlobal)).to.equal(0);
      expectWithin(1000, nodes);
    });

    it("[D20] a node without connections has no share, and asks for one when the first comes", async () => {
      const [node] = (await start(1000, [1])) as [ShareNode];
      await until("a share", async () => (await granted()).get("node-0") !== undefined);
      node.burst();
      node.connections = 0;
      await until("gone", async () => (await granted()).size === 0);
      expect(node.between(performance.now() - SECOND, performance.now()), "not before").to.equal(0);
      node.flood(1);
      await until("it sends", () => node.between(performance.now() - 500, performance.now()) > 0);
      node.calm();
      expectWithin(1000, [node]);
    });

    for (const [what, away, back] of [
      [
        "Redis is killed and comes back empty",
        () => cluster.redis.kill(),
        () => cluster.redis.restart({ empty: true }),
      ],
      ["Redis hangs", () => cluster.redis.pause(), () => cluster.redis.resume()],
    ] as const) {
      it(`[D20] ${what}: each node goes on with its part; never more than the limit, not even in between`, async () => {
        const limit = 2000;
        const nodes = await start(limit, [100, 100]);
        const [big, small] = nodes as [ShareNode, ShareNode];
        big.flood(90);
        small.flood(10);
        await until("uneven shares", async () => ((await granted()).get("node-0") ?? 0) >= 0.85 * limit);
        // Each has to know that they are two.
        await pause(1500);
        let gone = true;
        const comeBack = async () => {
          if (gone) await back();
          gone = false;
        };
        onTeardown(comeBack);
        for (const { errors } of nodes) errors.length = 0;
        await away();
        const inLastSecond = (node: ShareNode) => node.between(performance.now() - SECOND, performance.now());
        await until("half of it for each", () => inLastSecond(small) >= 0.45 * limit);
        await until("and not more", () => inLastSecond(big) <= limit / 2);
        const alone = performance.now() - SECOND;
        await Promise.all(nodes.map((node) => expectPace(0.48 * limit, 2, [node])));
        for (const { sent, errors } of nodes) {
          expectWithin(limit / 2, [{ sent: sent.filter((t) => t > alone) }]);
          expect(errors, "said once").to.have.length(1);
        }
        await comeBack();
        await until("uneven shares", async () => ((await granted()).get("node-0") ?? 0) >= 0.85 * limit);
        await expectPace(0.8 * limit, 1, [big]);
        expectWithin(limit, nodes);
      });
    }
  });
});
