import { setTimeout as pause } from "node:timers/promises";
import { expect } from "chai";
import { type Report, Share, type Waiter } from "../../server/src/gate/share.js";
import { onTeardown } from "../harness/teardown.js";
import { until } from "../harness/wait.js";

const SECOND = 1000;

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
});
