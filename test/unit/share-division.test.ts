import { readFileSync } from "node:fs";
import { setTimeout as pause } from "node:timers/promises";
import { expect } from "chai";
import fc from "fast-check";
import type { Report } from "../../server/src/gate/share.js";
import { Shares } from "../../server/src/redis/share.js";
import { expectWithin, shareCluster, sum } from "../harness/share-nodes.js";
import { until } from "../harness/wait.js";

const SCRIPT = new URL("../../server/src/redis/share.lua", import.meta.url);

describe("share of the cluster's limit", () => {
  describe("with a Redis", () => {
    const cluster = shareCluster();
    const { client, start, granted } = cluster;

    describe("Redis divides the limit", () => {
      const quiet = { used: 0, waiting: 0, connections: 1 };
      /** Nodes that say the same until nothing changes any more; what each of them may use then. */
      async function settle(limit: number, told: Partial<Report>[]): Promise<number[]> {
        const commands = await client();
        const nodes = told.map((_, n) => new Shares(commands, cluster.keys, `node-${n}`));
        const held = told.map(() => 0);
        for (let round = 0; round < 4; round++) {
          for (const [n, node] of nodes.entries()) {
            const report = { ...quiet, ...told[n], limit, held: held[n] ?? 0, nodes: told.length };
            held[n] = (await node.lease(report)).share;
          }
        }
        expect(held, "what they use is what is granted").to.deep.equal([...(await granted()).values()]);
        return held;
      }

      const cases: [string, number, Partial<Report>[], number[]][] = [
        [
          "all quiet: by connections, with a little for a newcomer",
          3200,
          [{ connections: 30 }, { connections: 60 }, { connections: 10 }],
          [931, 1852, 317],
        ],
        [
          "as many connections as messages: each has its one",
          1000,
          [{ connections: 600 }, { connections: 400 }],
          [600, 400],
        ],
        [
          "one floods, the others are quiet: nearly all for it",
          9000,
          [{ waiting: 500 }, { connections: 500 }, { connections: 500 }],
          [8940, 30, 30],
        ],
        ["all flood: by the connections that wait", 4000, [{ waiting: 300 }, { waiting: 100 }], [3000, 1000]],
        [
          "who wants less than its part gets it, and a quarter more",
          4000,
          [{ waiting: 100 }, { used: 800, connections: 100 }],
          [3000, 1000],
        ],
        [
          "who wants more than its part gets its part",
          4000,
          [{ waiting: 100 }, { used: 3600, connections: 100 }],
          [2000, 2000],
        ],
        [
          "a node without connections gets nothing",
          3200,
          [{ connections: 0 }, { connections: 5 }],
          [0, 3100],
        ],
      ];
      for (const [what, limit, told, shares] of cases) {
        it(`[D20] ${what}`, async () => {
          const settled = await settle(limit, told);
          for (const [n, share] of shares.entries()) expect(settled[n]).to.be.within(share - 1, share + 1);
        });
      }

      it("[D20] rounding loses nothing, and with fewer messages than nodes each has its turn", async () => {
        for (const limit of [7, 100]) {
          const settled = await settle(limit, [{ waiting: 1 }, { waiting: 1 }, { waiting: 1 }]);
          expect(settled.reduce((a, b) => a + b)).to.equal(limit);
          await cluster.redis.client().del(cluster.keys.rateLimitGlobal);
        }
        const nodes = await start(1, [1, 1]);
        for (const node of nodes) node.flood(1);
        await until("both are there", async () => (await granted()).size === 2);
        const before = nodes.map((node) => node.sent.length);
        await until("both had a turn", () => nodes.every((node, n) => node.sent.length > (before[n] ?? 0)));
        expectWithin(1, nodes);
      });

      it("[D20] a newcomer finds some free while all are quiet", async () => {
        await settle(3200, [{ connections: 30 }, { connections: 60 }]);
        const { share, nodes } = await new Shares(await client(), cluster.keys, "new").lease({
          ...quiet,
          limit: 3200,
          held: 0,
          nodes: 1,
        });
        expect(nodes).to.equal(3);
        expect(share).to.be.at.least(34);
      });

      it("[D20] the shares never sum to more than the limit, whatever nodes report and however long they hold it", async () => {
        const commands = await client();
        const report = fc.record({
          node: fc.nat(4),
          /** How much of what it may use it has used, and how much of that has left by the next report. */
          spent: fc.double({ min: 0, max: 1, noNaN: true }),
          left: fc.double({ min: 0, max: 1, noNaN: true }),
          waiting: fc.oneof(fc.constant(0), fc.nat(1000)),
          connections: fc.nat(1000),
        });
        const runs = fc.tuple(fc.integer({ min: 1, max: 2000 }), fc.array(report, { maxLength: 40 }));
        await fc.assert(
          fc.asyncProperty(runs, async ([limit, reports]) => {
            cluster.freshKeys();
            const nodes = Array.from({ length: 5 }, (_, n) => ({
              shares: new Shares(commands, cluster.keys, `node-${n}`),
              used: 0,
              mayUse: 0,
            }));
            for (const { node: n, spent, left, waiting, connections } of reports) {
              const node = nodes[n] as (typeof nodes)[number];
              node.used = Math.max(Math.floor(node.used * (1 - left)), Math.floor(node.mayUse * spent));
              const held = Math.max(node.used, node.mayUse);
              const { share } = await node.shares.lease({
                ...{ limit, held, used: node.used, waiting, connections, nodes: 1 },
              });
              node.mayUse = share;
              const shares = await granted();
              expect(sum(shares)).to.be.at.most(limit);
              expect(shares.get(`node-${n}`)).to.be.at.least(Math.max(held, share));
            }
          }),
          { numRuns: 60 },
        );
      });

      it("[D20] a report that comes late, or after a newer one, changes nothing", async () => {
        const commands = await client();
        const calls: (string | number)[][] = [];
        const runner = {
          evalsha: (sha: string, count: number, ...args: (string | number)[]) => {
            calls.push(args);
            return commands.evalsha(sha, count, ...args);
          },
          eval: commands.eval.bind(commands),
        } as unknown as typeof commands;
        const shares = new Shares(runner, cluster.keys, "n");
        const report = { ...quiet, limit: 100, nodes: 1 };
        await shares.lease({ ...report, held: 0 });
        await shares.lease({ ...report, held: 50 });
        await shares.lease({ ...report, held: 80 });
        const stands = await granted();
        const sha = await commands.script("LOAD", readFileSync(SCRIPT, "utf8"));
        const again = await commands.evalsha(String(sha), 1, ...(calls[1] as string[]));
        expect((again as number[])[0], "an older one").to.equal(-1);
        expect(await granted()).to.deep.equal(stands);

        cluster.redis.pause();
        const late = shares.lease({ ...report, held: 10 }).catch(String);
        await pause(700);
        cluster.redis.resume();
        expect(await late).to.match(/too late/);
        expect(await granted()).to.deep.equal(stands);
        await shares.lease({ ...report, held: 10 });
      });
    });
  });
});
