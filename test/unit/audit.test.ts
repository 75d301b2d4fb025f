import { setTimeout as pause } from "node:timers/promises";
import { redisKeys } from "@agentwire/shared/redis";
import { expect } from "chai";
import fc from "fast-check";
import { pino } from "pino";
import { type AuditOptions, createAudit } from "../../server/src/ops/audit.js";
import type { AuditEntry } from "../../server/src/ops/audit-record.js";
import { printable } from "../../server/src/ops/printable.js";
import { AuditLog } from "../../server/src/redis/audit-log.js";
import { connectRedis } from "../../server/src/redis/clients.js";
import { needs } from "../harness/needs.js";
import { type RedisServer, startRedis } from "../harness/redis.js";
import { onTeardown } from "../harness/teardown.js";
import { until } from "../harness/wait.js";

type Line = Record<string, unknown>;
type Fields = Record<string, string>;

const keys = redisKeys("audit-test");
const INSTANCE = "node-1";
const NAMES = ["event", "user", "ip", "time", "reason", "instance", "connection", "detail"];

function openLog() {
  const texts: string[] = [];
  const logger = pino({ timestamp: pino.stdTimeFunctions.isoTime }, { write: (text) => texts.push(text) });
  return {
    logger,
    texts,
    get lines(): Line[] {
      return texts.map((text) => JSON.parse(text));
    },
    said: (msg: string): Line[] => texts.map((text) => JSON.parse(text)).filter((line) => line.msg === msg),
  };
}

/** An audit whose `append` is given here. */
function auditTo(append: AuditOptions["append"]) {
  const log = openLog();
  return { log, audit: createAudit({ instanceId: INSTANCE, append, logger: log.logger }) };
}

const numbered = (n: number): AuditEntry => ({ event: "connect", ip: "127.0.0.1", user: `user-${n}` });

describe("audit", () => {
  describe("what is written", () => {
    const kept = () => {
      const records: Fields[] = [];
      const { log, audit } = auditTo(async (batch) => {
        records.push(...batch);
      });
      return { records, log, audit };
    };

    it("[D26] any text gives one line of JSON and one entry, bounded, without a character that cannot be seen", async () => {
      const anything = fc.string({ unit: "binary", maxLength: 600 });
      const unpaired = fc.array(fc.integer({ min: 0xd7f0, max: 0xe010 }), { maxLength: 20 });
      const nasty = fc.constantFrom(
        "\n{}",
        "\u001b[2J",
        "\u0085",
        "\u2028",
        "\u202eevil",
        "a\u0000b",
        "\\n",
        '"',
      );
      const text = fc.oneof(
        anything,
        nasty,
        unpaired.map((units) => String.fromCharCode(...units)),
      );
      const list = fc.array(text, { maxLength: 60 });
      const entry = fc.record(
        {
          event: fc.constantFrom("connect", "refuse", "disconnect", "subscribe", "revoke"),
          ip: text,
          user: text,
          connection: text,
          reason: text,
          filters: fc.record({ agent_ids: list, project_ids: list, event_types: list }),
          projects: list,
        },
        { requiredKeys: ["event", "ip"] },
      );
      await fc.assert(
        fc.asyncProperty(fc.array(entry, { minLength: 1, maxLength: 5 }), async (entries) => {
          const { records, log, audit } = kept();
          for (const one of entries) audit.note(one as AuditEntry);
          await audit.flush();
          expect(log.texts).to.have.length(entries.length);
          expect(records).to.have.length(entries.length);
          for (const [n, line] of log.texts.entries()) {
            expect(line.endsWith("\n")).to.equal(true);
            expect(line.slice(0, -1)).not.to.match(/[\p{Cc}\p{Cf}\p{Cs}\p{Zl}\p{Zp}]/u);
            const { level, pid, hostname, msg, detail, ...said } = JSON.parse(line);
            expect(msg).to.equal("audit");
            const fields = records[n] as Fields;
            expect(NAMES).to.include.members(Object.keys(fields));
            const { time, detail: text, ...same } = fields;
            expect(Number.isNaN(Date.parse(time ?? ""))).to.equal(false);
            expect(said).to.deep.equal({ ...same, time: said.time });
            expect(text && JSON.parse(text)).to.deep.equal(detail);
            for (const value of Object.values(same)) expect(value.length).to.be.at.most(256);
            expect(text?.length ?? 0).to.be.below(8000);
          }
        }),
        { numRuns: 300 },
      );
    });

    it("[D26] two different texts never look alike, and what can be seen stays as it is", () => {
      const back = (text: string) =>
        text.replace(/\\(?:\\|u([0-9a-f]{4}))/g, (_, hex) =>
          hex === undefined ? "\\" : String.fromCharCode(Number.parseInt(hex, 16)),
        );
      fc.assert(
        fc.property(fc.string({ unit: "binary", maxLength: 20 }), (text) => {
          expect(back(printable(text))).to.equal(text);
        }),
      );
      const seen = 'Zoë "Ω" 日本 😀 <b>&amp;</b> a+b@example.com';
      expect(printable(seen)).to.equal(seen);
      expect(printable("a\r\n\u202e\\")).to.equal("a\\u000d\\u000a\\u202e\\\\");
      expect(printable("x".repeat(256))).to.equal("x".repeat(256));
      expect(printable("x".repeat(257))).to.equal(`${"x".repeat(255)}…`);
      expect(printable("😀".repeat(1_000_000)).length).to.be.at.most(256);
    });

    it("[D26] only the named fields get in: a token that is handed over with an entry does not", async () => {
      const { records, log, audit } = kept();
      const secret = "eyJhbGciOiJIUzI1NiJ9.e30.c2lnbmF0dXJl";
      const careless = { event: "connect", ip: "::1", token: secret, headers: { authorization: secret } };
      audit.note({
        ...careless,
        filters: { agent_ids: [], project_ids: [], event_types: [], token: [secret] },
      } as unknown as AuditEntry);
      await audit.flush();
      expect(records).to.have.length(1);
      expect(JSON.stringify(records) + log.texts.join("")).not.to.include(secret);
    });

    it("[D26] a filter of 1,000 ids is cut, and says so", async () => {
      const { records, audit } = kept();
      const agent_ids = Array.from({ length: 1000 }, (_, n) => `agent-${n}`.padEnd(128, "x"));
      audit.note({
        event: "subscribe",
        ip: "::1",
        filters: { agent_ids, project_ids: ["p1"], event_types: [] },
      });
      await audit.flush();
      const { agent_ids: shown, ...others } = JSON.parse(records[0]?.detail ?? "");
      expect(shown).to.deep.equal([...agent_ids.slice(0, 8), "… 992 more"]);
      expect(others).to.deep.equal({ project_ids: ["p1"], event_types: [] });
    });

    it("[D26] what is no entry at all is an error in the log, and no exception", () => {
      const { log, audit } = kept();
      audit.note({ event: "connect", ip: 7 } as unknown as AuditEntry);
      audit.note(undefined as unknown as AuditEntry);
      expect(log.said("audit entry could not be taken")).to.have.length(2);
    });
  });

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

  describe("in Redis", () => {
    needs("REDIS");
    let server: RedisServer;

    before(async () => {
      server = await startRedis();
    });
    after(() => server?.stop());

    function open({ maxEntries = 10_000 } = {}) {
      const log = openLog();
      const redis = connectRedis({ kind: "url", url: server.url }, keys, log.logger);
      onTeardown(() => redis.close());
      const stored = new AuditLog(redis.commands, keys, maxEntries);
      const append = stored.append.bind(stored);
      const audit = createAudit({ instanceId: INSTANCE, append, logger: log.logger });
      const client = server.client();
      const read = async (): Promise<Fields[]> => {
        const entries = await client.xrange(keys.audit, "-", "+");
        return entries.map(([, flat]) =>
          Object.fromEntries(flat.flatMap((name, n) => (n % 2 === 0 ? [[name, flat[n + 1] ?? ""]] : []))),
        );
      };
      return { log, redis, audit, client, read };
    }
    const opened = async (options = {}) => {
      const all = open(options);
      await all.client.del(keys.audit);
      await until("the node's client is there", () => all.redis.commands.status === "ready");
      return all;
    };

    it("[D26] an entry has its fields in the stream, and the same in the log", async () => {
      const { audit, read, log, client } = await opened();
      const filters = { agent_ids: ["a1"], project_ids: ["p1", "p2"], event_types: [] };
      audit.note({ event: "connect", user: "anna", ip: "10.0.0.1", connection: "c1", filters });
      audit.note({ event: "refuse", ip: "10.0.0.2", reason: "UNAUTHORIZED" });
      audit.note({
        event: "disconnect",
        user: "anna",
        ip: "10.0.0.1",
        connection: "c1",
        reason: "transport close",
      });
      audit.note({ event: "revoke", user: "anna", ip: "10.0.0.1", connection: "c1", projects: ["p2"] });
      const entries = await until("they are written", async () => {
        const found = await read();
        return found.length === 4 && found;
      });
      for (const { time = "" } of entries) expect(new Date(time).toISOString()).to.equal(time);
      const anna = { user: "anna", ip: "10.0.0.1", instance: INSTANCE, connection: "c1" };
      expect(entries.map(({ time, ...rest }) => rest)).to.deep.equal([
        { event: "connect", ...anna, detail: JSON.stringify(filters) },
        { event: "refuse", ip: "10.0.0.2", reason: "UNAUTHORIZED", instance: INSTANCE },
        { event: "disconnect", ...anna, reason: "transport close" },
        { event: "revoke", ...anna, detail: '{"projects":["p2"]}' },
      ]);
      const names = (await client.xrange(keys.audit, "-", "+")).map(([, flat]) =>
        flat.filter((_, n) => n % 2 === 0).join(" "),
      );
      expect(names[0]).to.equal("event user ip time instance connection detail");
      expect(names[2]).to.equal("event user ip time reason instance connection");
      expect(log.said("audit").map(({ event, user }) => [event, user])).to.deep.equal(
        entries.map(({ event, user }) => [event, user]),
      );
      expect(log.said("audit")[0]).to.deep.include({ ...anna, level: 30, detail: filters });
    });

    it("[D26] many go together: 1,000 entries are ten transactions, in their order", async () => {
      const { audit, read, client } = await opened();
      await client.config("RESETSTAT");
      for (let n = 0; n < 1000; n++) audit.note(numbered(n));
      await until("they are written", async () => (await client.xlen(keys.audit)) === 1000);
      expect((await read()).map(({ user }) => user)).to.deep.equal(
        Array.from({ length: 1000 }, (_, n) => `user-${n}`),
      );
      expect(await client.info("commandstats")).to.match(/cmdstat_exec:calls=10,/);
    });

    it("[D26] the stream is bounded", async () => {
      const { audit, read, client } = await opened({ maxEntries: 200 });
      for (let n = 0; n < 3000; n++) {
        audit.note(numbered(n));
        if (n % 500 === 499) await audit.flush();
      }
      expect((await read()).at(-1)?.user).to.equal("user-2999");
      // Redis trims whole nodes of 100 entries.
      expect(await client.xlen(keys.audit)).to.be.within(200, 300);
    });

    it("[D26] while Redis is gone the lines go on, and afterwards one entry says how many are missing", async () => {
      const { audit, read, log, client } = await opened();
      await server.kill();
      await until("that is noticed", () => client.status !== "ready");
      for (let n = 0; n < 1500; n++) audit.note(numbered(n));
      expect(log.said("audit")).to.have.length(1500);
      expect(audit.lost()).to.equal(500);
      await until("it has tried", () => log.said("audit entries wait for redis").length === 1);
      await server.restart();
      const entries = await until("they are written", async () => {
        const found = await read();
        return found.length === 1001 && found;
      });
      const [about, ...rest] = entries;
      expect(about).to.include({ event: "lost", reason: "500", instance: INSTANCE });
      expect(rest.map(({ user }) => user)).to.deep.equal(
        Array.from({ length: 1000 }, (_, n) => `user-${n + 500}`),
      );
      expect(log.said("audit").at(-1)).to.include({ event: "lost", reason: "500" });
      audit.note(numbered(1500));
      await until("it goes on as before", async () => (await read()).at(-1)?.user === "user-1500");
      expect((await read()).filter(({ event }) => event === "lost")).to.have.length(1);
      expect(log.said("audit entries wait for redis")).to.have.length(1);
    });

    it("[D26] while Redis hangs nothing is lost, and stopping waits a second at most", async () => {
      const { audit, read, log } = await opened();
      server.pause();
      for (let n = 0; n < 150; n++) audit.note(numbered(n));
      const before = performance.now();
      await audit.flush();
      expect(performance.now() - before).to.be.within(900, 3000);
      expect(log.said("audit entries not written to redis")).to.have.length(1);
      server.resume();
      // What Redis read but did not answer may stand there twice.
      await until("they are written", async () => {
        const users = new Set((await read()).map(({ user }) => user));
        return users.size === 150;
      });
      await audit.flush();
      expect(audit.lost()).to.equal(0);
    });

    it("[D26] what Redis refuses is kept and written later", async () => {
      const { audit, read, log, client } = await opened();
      await client.set(keys.audit, "no stream");
      audit.note(numbered(0));
      await until("it is refused", () => log.said("audit entries wait for redis").length === 1);
      await client.del(keys.audit);
      await until("it is written", async () => (await read()).length === 1);
    });

    it("[D26] stopping writes what waits", async () => {
      const { audit, read } = await opened();
      for (let n = 0; n < 342; n++) audit.note(numbered(n));
      await audit.flush();
      expect(await read()).to.have.length(342);
      await audit.flush();
    });
  });
});
