import { setTimeout as pause } from "node:timers/promises";
import { expect } from "chai";
import { auditTo, type Fields, INSTANCE, numbered } from "../harness/audit.js";
import { until } from "../harness/wait.js";

describe("audit", () => {
  describe("when it is written", () => {
    it("[D26] not before the caller goes on, then in batches of 100 at most, one after the other", async () => {
      const batches: number[] = [];
      let under = 0;
      const { audit } = auditTo(async (batch) => {
        batches.push(batch.length);
        expect(++under).to.equal(1);
        await new Promise((resolve) => setImmediate(resolve));
        under--;
      });
      for (let n = 0; n < 250; n++) audit.note(numbered(n));
      expect(batches).to.deep.equal([]);
      await Promise.resolve();
      expect(batches).to.deep.equal([]);
      await until("all are written", () => batches.length === 3);
      expect(batches).to.deep.equal([100, 100, 50]);
      audit.note(numbered(250));
      await until("a single one too", () => batches.length === 4);
    });

    it("[D26] asked to hurry, it still writes one batch after the other; a write that hangs is left after a second", async () => {
      let under = 0;
      let most = 0;
      const { audit } = auditTo(async () => {
        most = Math.max(most, ++under);
        await pause(5);
        under--;
      });
      for (let n = 0; n < 450; n++) audit.note(numbered(n));
      await Promise.all([audit.flush(), audit.flush(), until("it writes", () => under > 0)]);
      expect(most).to.equal(1);

      const hanging = auditTo(() => new Promise(() => {}));
      hanging.audit.note(numbered(0));
      const before = performance.now();
      await hanging.audit.flush();
      expect(performance.now() - before).to.be.within(900, 3000);
      expect(hanging.log.said("audit entries not written to redis")).to.have.length(1);
    });

    it("[D26] it tries again and again, and says once that it has to", async () => {
      let tries = 0;
      const { log, audit } = auditTo(async () => {
        if (++tries < 4) throw new Error("away");
      });
      audit.note(numbered(0));
      await until("it is written", () => tries === 4);
      expect(log.said("audit entries wait for redis")).to.have.length(1);
    });

    it("[D26] entries noted while others are written wait for their turn, also the last one", async () => {
      const written: string[] = [];
      const { audit } = auditTo(async (batch) => {
        const last = Number(batch.at(-1)?.user?.slice(5));
        written.push(...batch.map(({ user = "" }) => user));
        // In the very moment in which the write ends.
        if (last < 500) queueMicrotask(() => audit.note(numbered(last + 1)));
      });
      audit.note(numbered(0));
      await until("each has called the next", () => written.length === 501, 60_000);
      expect(written).to.deep.equal(Array.from({ length: 501 }, (_, n) => `user-${n}`));
    });

    it("[D26] memory is bounded also while a write hangs: of 1,000 that wait the oldest go, and are counted", async () => {
      let fail: (error: Error) => void = () => {};
      const got: Fields[][] = [];
      const { log, audit } = auditTo((batch) => {
        got.push([...batch]);
        return got.length > 1
          ? Promise.resolve()
          : new Promise((_, reject) => {
              fail = reject;
            });
      });
      for (let n = 0; n < 100; n++) audit.note(numbered(n));
      await until("the first hundred are under way", () => got.length === 1);
      for (let n = 100; n < 1250; n++) audit.note(numbered(n));
      expect(audit.lost()).to.equal(150);
      fail(new Error("hung"));
      await until("the rest is written", () => got.flat().length >= 1101);
      const [about, ...rest] = got.slice(1).flat();
      expect(about).to.include({ event: "lost", reason: "250", instance: INSTANCE });
      expect(rest.map(({ user }) => user)).to.deep.equal(
        Array.from({ length: 1000 }, (_, n) => `user-${n + 250}`),
      );
      expect(audit.lost()).to.equal(250);
      expect(log.said("audit").filter(({ event }) => event === "connect")).to.have.length(1250);
    });
  });
});
