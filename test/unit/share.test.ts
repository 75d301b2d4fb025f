import { randomUUID } from "node:crypto";
import { readFileSync } from "node:fs";
import { setTimeout as pause } from "node:timers/promises";
import { type RedisKeys, redisKeys } from "@agentwire/shared/redis";
import { expect } from "chai";
import fc from "fast-check";
import { pino } from "pino";
import { type Report, Share, type Waiter } from "../../server/src/gate/share.js";
import { connectRedis } from "../../server/src/redis/clients.js";
import { Shares } from "../../server/src/redis/share.js";
import { needs } from "../harness/needs.js";
import { type RedisServer, startRedis } from "../harness/redis.js";
import { watchStalls } from "../harness/stalls.js";
import { onTeardown } from "../harness/teardown.js";
import { until } from "../harness/wait.js";

const SECOND = 1000;
const SCRIPT = new URL("../../server/src/redis/share.lua", import.meta.url);

/** A node of the cluster, as far as the limit goes: its connections always have something to send, or nothing. */
class Node {
  /** When its messages were sent (ms), as the share counted them. */
  readonly sent: number[] = [];
  readonly errors: unknown[] = [];
  readonly share: Share;
  connections: number;
  dead = false;
  #now = 0;
  #waiters: Waiter[] = [];

  constructor(limit: number, shares: Pick<Shares, "lease" | "giveBack">, connections: number) {
    this.connections = connections;
    const orDead = <T>(call: () => Promise<T>) => (this.dead ? Promise.reject(new Error("dead")) : call());
    this.share = new Share({
      limit,
      lease: (report) => orDead(() => shares.lease(report)),
      giveBack: () => orDead(() => shares.giveBack()),
      connections: () => this.connections,
      now: () => {
        this.#now = performance.now();
        return this.#now;
      },
      onError: (error) => this.errors.push(error),
    });
  }

  /** So many of its connections want to send all the time. @returns what each of them has sent, growing */
  flood(connections: number): number[] {
    const counts = new Array<number>(connections).fill(0);
    this.#waiters = counts.map((_, n) => ({
      turn: () => {
        this.sent.push(this.#now);
        counts[n] = (counts[n] ?? 0) + 1;
        return "again";
      },
    }));
    for (const waiter of this.#waiters) this.share.wait(waiter);
    return counts;
  }

  calm(): void {
    for (const waiter of this.#waiters.splice(0)) this.share.leave(waiter);
  }

  /** `kill -9`: nothing is sent, nothing is said. */
  die(): void {
    this.calm();
    this.dead = true;
  }

  /** Sends as many as it may at once. */
  burst(): number {
    for (let n = 0; ; n++) {
      const now = performance.now();
      if (!this.share.take(now)) return n;
      this.sent.push(now);
    }
  }

  /** How many it sent in this stretch of time (ms). */
  between(from: number, to: number): number {
    return this.sent.filter((t) => t >= from && t < to).length;
  }
}

/** In no second, wherever it begins, did all nodes together send more than the limit. */
function expectWithin(limit: number, nodes: Pick<Node, "sent">[]): void {
  const sent = nodes.flatMap((node) => node.sent).sort((a, b) => a - b);
  for (let n = limit; n < sent.length; n++) {
    const took = (sent[n] as number) - (sent[n - limit] as number);
    if (took < SECOND) expect.fail(`${limit + 1} messages within ${took} ms`);
  }
}

/**
 * From now on these nodes send so many messages in each second, for some seconds. Not counted by the clock: full demand
 * comes in bursts, a little over a second apart, and a stretch of time may hold one more or less.
 */
async function expectPace(perSecond: number, seconds: number, nodes: Node[]): Promise<void> {
  const stalls = watchStalls();
  const before = nodes.map((node) => node.sent.length);
  const count = Math.floor(perSecond) * seconds;
  await until(`${count} more are sent`, () => {
    return nodes.reduce((all, { sent }, n) => all + sent.length - (before[n] ?? 0), 0) > count;
  });
  const sent = nodes.flatMap((node, n) => node.sent.slice(before[n])).sort((a, b) => a - b);
  const [first = 0, last = 0] = [sent[0], sent[count]];
  expect(last - first, `ms for ${count}`).to.be.at.most((seconds * SECOND) / 0.98 + stalls.total());
}

describe("share of the cluster's limit", () => {
  describe("on one node", () => {
    /** A share whose calls are answered by hand, with a clock that can be set forward. */
    async function begin({ limit = 1000, connections = 1 } = {}) {
      const asked: { report: Report; answer(share: number): void; fail(error: Error): void }[] = [];
      const errors: unknown[] = [];
      const clock = { ahead: 0 };
      const share = new Share({
        limit,
        lease: (report) =>
          new Promise((resolve, fail) => {
            asked.push({ report, answer: (share) => resolve({ share, nodes: 1 }), fail });
            onTeardown(() => fail(new Error("over")));
          }),
        giveBack: async () => {},
        connections: () => connections,
        now: () => performance.now() + clock.ahead,
        onError: (error) => errors.push(error),
      });
      onTeardown(() => void share.stop());
      share.start();
      const take = (tries: number) =>
        Array.from({ length: tries }, () => share.take(performance.now() + clock.ahead)).filter(Boolean)
          .length;
      const answer = async (granted: number) => {
        const { report, answer } = await until("it asks", () => asked.shift());
        answer(granted);
        await pause(0);
        return report;
      };
      return { share, asked, errors, clock, take, answer };
    }
    /** Waits, and notes its turns. It answers as told, then that it has nothing. */
    function waiter(name: string, turns: string[], answers: ReturnType<Waiter["turn"]>[] = ["sent"]): Waiter {
      const left = [...answers];
      return {
        turn() {
          turns.push(name);
          return left.shift() ?? "unused";
        },
      };
    }

    it("[D20] without a lease nothing is sent; with it as much as was granted", async () => {
      const { take, answer } = await begin();
      expect(take(5)).to.equal(0);
      expect(await answer(3)).to.include({ held: 0, used: 0, waiting: 0, connections: 1, limit: 1000 });
      expect(take(5)).to.equal(3);
    });

    it("[D20] while a call is under way it spends what it said it holds, and holds what it has spent", async () => {
      const { take, answer, asked } = await begin();
      await answer(100);
      expect(take(40)).to.equal(40);
      const [call] = await until("it asks", () => asked.length > 0 && asked);
      expect(call?.report).to.include({ held: 100, used: 40 });
      expect(take(80), "the rest of it").to.equal(60);
      await answer(30);
      expect(take(1), "less was granted than it has spent").to.equal(0);
      expect(await answer(300)).to.include({ held: 100, used: 100 });
      expect(take(300)).to.equal(200);
    });

    it("[D20] what it does not use any more it says at the next report", async () => {
      const { answer, take } = await begin();
      await answer(100);
      await answer(30);
      expect(await answer(30)).to.include({ held: 30, used: 0 });
      expect(take(50)).to.equal(30);
    });

    it("[D20] a node that stood still for longer than its lease sends nothing before it has a new one", async () => {
      const { share, asked, answer, take, clock } = await begin();
      await answer(100);
      const stale = await until("it asks", () => asked.shift());
      clock.ahead += 1000;
      expect(take(1)).to.equal(0);
      const turns: string[] = [];
      share.wait(waiter("a", turns));
      stale.answer(100);
      const fresh = await until("it asks again", () => asked.shift());
      expect(fresh.report, "what it had may be another's").to.include({ held: 0, waiting: 1 });
      expect(turns).to.deep.equal([]);
      fresh.answer(10);
      await until("its turn", () => turns.length > 0);
      expect(take(20)).to.equal(9);
    });

    it("[D20] a call that failed while the node stood still is no outage: it asks again before it sends", async () => {
      const { share, asked, answer, take, clock, errors } = await begin();
      await answer(100);
      const { fail } = await until("it asks", () => asked.shift());
      clock.ahead += 5000;
      fail(new Error("timed out"));
      const turns: string[] = [];
      share.wait(waiter("a", turns));
      const again = await until("it asks again", () => asked.shift());
      await pause(250);
      expect(take(1) + turns.length).to.equal(0);
      again.answer(1);
      await until("its turn", () => turns.length === 1);
      expect(errors).to.deep.equal([]);
    });

    it("[D20] when no answer comes it goes on with what it had, until one comes in time", async () => {
      const { asked, answer, take, errors } = await begin();
      const began = performance.now();
      await answer(100);
      expect(take(40)).to.equal(40);
      const { answer: late } = await until("it asks", () => asked.shift());
      await until("its lease has ended", () => performance.now() > began + 1200);
      expect(errors).to.have.length(1);
      expect(take(1)).to.equal(1);
      late(500);
      await pause(0);
      expect(take(200), "still what it had").to.equal(99);
      await answer(500);
      expect(take(500)).to.equal(400);
    });

    it("[D20] turns go round: first come, first served; waiting twice counts once; others may not pass", async () => {
      const { share, answer, take } = await begin();
      const turns: string[] = [];
      const a = waiter("a", turns, ["again", "again", "sent"]);
      const b = waiter("b", turns, ["again", "sent"]);
      const c = waiter("c", turns, ["sent"]);
      for (const one of [a, b, a, c, b]) share.wait(one);
      await answer(4);
      expect(turns.join("")).to.equal("abca");
      let passed = 0;
      share.wait({
        turn() {
          passed += take(1);
          return "sent";
        },
      });
      share.wait(waiter("d", turns));
      await answer(100);
      expect(turns.join("")).to.equal("abcabad");
      expect(passed, "while another waited").to.equal(0);
      expect(take(100), "eight turns were eight messages").to.equal(92);
    });

    it("[D20] who leaves has no turn, also when it leaves in its own; who had nothing to send costs nothing", async () => {
      const { share, answer, take } = await begin();
      const turns: string[] = [];
      const gone = waiter("gone", turns);
      const closes: Waiter = {
        turn() {
          turns.push("closes");
          share.leave(closes);
          return "again";
        },
      };
      for (const one of [gone, closes, waiter("empty", turns, []), waiter("last", turns)]) share.wait(one);
      share.leave(gone);
      await answer(10);
      expect(turns).to.deep.equal(["closes", "empty", "last"]);
      expect(take(20)).to.equal(8);
    });

    it("[D20] one that throws does not stop the others", async () => {
      const { share, answer, errors } = await begin();
      const turns: string[] = [];
      share.wait({
        turn() {
          throw new Error("broken");
        },
      });
      share.wait(waiter("next", turns));
      await answer(10);
      expect(turns).to.deep.equal(["next"]);
      expect(errors.map(String)).to.deep.equal(["Error: broken"]);
    });

    it("[D20] it asks ten times a second, and at most fifty times while somebody waits", async () => {
      const { share, asked } = await begin();
      const inASecond = async () => {
        const end = performance.now() + SECOND;
        for (let n = 0; ; n++) {
          const call = await until("it asks", () => asked.shift() ?? performance.now() > end);
          if (call === true) return n;
          call.answer(0);
        }
      };
      expect(await inASecond()).to.be.within(5, 12);
      share.wait(waiter("a", []));
      expect(await inASecond()).to.be.within(20, 60);
    });

    it("[D20] a limit of 0 is none: everything passes, and nobody is asked", async () => {
      const { share, take, asked } = await begin({ limit: 0 });
      expect(take(50_000)).to.equal(50_000);
      const turns: string[] = [];
      share.wait(waiter("a", turns));
      await until("its turn", () => turns.length === 1);
      expect(asked).to.deep.equal([]);
    });
  });

  describe("with a Redis", () => {
    needs("REDIS");
    let redis: RedisServer;
    let keys: RedisKeys;

    before(async () => {
      redis = await startRedis();
    });
    after(() => redis?.stop());
    beforeEach(() => {
      keys = redisKeys(randomUUID());
    });

    /** The client that a node has. */
    async function client() {
      const clients = connectRedis({ kind: "url", url: redis.url }, keys, pino({ level: "silent" }));
      onTeardown(clients.close);
      await until("connected", () => clients.commands.status === "ready");
      return clients.commands;
    }
    async function start(limit: number, connections: number[]): Promise<Node[]> {
      const commands = await client();
      const nodes = connections.map(
        (count, n) => new Node(limit, new Shares(commands, keys, `node-${n}`), count),
      );
      // Not waited for: what they sent takes a second to leave.
      onTeardown(() => {
        for (const node of nodes) void node.share.stop();
      });
      for (const node of nodes) node.share.start();
      return nodes;
    }
    /** Instance → its share, as it stands in Redis. */
    async function granted() {
      const hash = await redis.client().hgetall(keys.rateLimitGlobal);
      return new Map(
        Object.entries(hash).map(([holder, text]) => [holder.split(":")[0], Number(text.split(" ")[0])]),
      );
    }
    const sum = (shares: Map<unknown, number>) => [...shares.values()].reduce((a, b) => a + b, 0);

    describe("Redis divides the limit", () => {
      const quiet = { used: 0, waiting: 0, connections: 1 };
      /** Nodes that say the same until nothing changes any more; what each of them may use then. */
      async function settle(limit: number, told: Partial<Report>[]): Promise<number[]> {
        const commands = await client();
        const nodes = told.map((_, n) => new Shares(commands, keys, `node-${n}`));
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
          await redis.client().del(keys.rateLimitGlobal);
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
        const { share, nodes } = await new Shares(await client(), keys, "new").lease({
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
            keys = redisKeys(randomUUID());
            const nodes = Array.from({ length: 5 }, (_, n) => ({
              shares: new Shares(commands, keys, `node-${n}`),
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
        const shares = new Shares(runner, keys, "n");
        const report = { ...quiet, limit: 100, nodes: 1 };
        await shares.lease({ ...report, held: 0 });
        await shares.lease({ ...report, held: 50 });
        await shares.lease({ ...report, held: 80 });
        const stands = await granted();
        const sha = await commands.script("LOAD", readFileSync(SCRIPT, "utf8"));
        const again = await commands.evalsha(String(sha), 1, ...(calls[1] as string[]));
        expect((again as number[])[0], "an older one").to.equal(-1);
        expect(await granted()).to.deep.equal(stands);

        redis.pause();
        const late = shares.lease({ ...report, held: 10 }).catch(String);
        await pause(700);
        redis.resume();
        expect(await late).to.match(/too late/);
        expect(await granted()).to.deep.equal(stands);
        await shares.lease({ ...report, held: 10 });
      });
    });

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
      const [busy] = nodes as [Node];
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

    it("[D20] a node that dies has its share until its lease ends; then the others have it", async () => {
      const limit = 3000;
      const nodes = await start(limit, [100, 100]);
      const [one, other] = nodes as [Node, Node];
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
      const [one, other] = nodes as [Node, Node];
      one.flood(10);
      other.flood(10);
      await until("both have sent", () => nodes.every((node) => node.sent.length > 300));
      await one.share.stop();
      const stopped = performance.now();
      expect([...(await granted()).keys()]).to.deep.equal(["node-1"]);
      expect(one.between(stopped - SECOND, stopped), "all it sent has left the window").to.equal(0);
      await other.share.stop();
      expect(await redis.client().exists(keys.rateLimitGlobal)).to.equal(0);
      expectWithin(1000, nodes);
    });

    it("[D20] a node without connections has no share, and asks for one when the first comes", async () => {
      const [node] = (await start(1000, [1])) as [Node];
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
      ["Redis is killed and comes back empty", () => redis.kill(), () => redis.restart({ empty: true })],
      ["Redis hangs", () => redis.pause(), () => redis.resume()],
    ] as const) {
      it(`[D20] ${what}: each node goes on with its part; never more than the limit, not even in between`, async () => {
        const limit = 2000;
        const nodes = await start(limit, [100, 100]);
        const [big, small] = nodes as [Node, Node];
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
        const inLastSecond = (node: Node) => node.between(performance.now() - SECOND, performance.now());
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
