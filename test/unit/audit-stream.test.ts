import { redisKeys } from "@agentwire/shared/redis";
import { expect } from "chai";
import { createAudit } from "../../server/src/ops/audit.js";
import { AuditLog } from "../../server/src/redis/audit-log.js";
import { connectRedis } from "../../server/src/redis/clients.js";
import { type Fields, INSTANCE, numbered, openLog } from "../harness/audit.js";
import { sharedRedis } from "../harness/redis.js";
import { onTeardown } from "../harness/teardown.js";
import { until } from "../harness/wait.js";

const keys = redisKeys("audit-test");

describe("audit", () => {
  describe("in Redis", () => {
    const { server } = sharedRedis();

    function open({ maxEntries = 10_000 } = {}) {
      const log = openLog();
      const redis = connectRedis({ kind: "url", url: server().url }, keys, log.logger);
      onTeardown(() => redis.close());
      const stored = new AuditLog(redis.commands, keys, maxEntries);
      const append = stored.append.bind(stored);
      const audit = createAudit({ instanceId: INSTANCE, append, logger: log.logger });
      const client = server().client();
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
      await server().kill();
      await until("that is noticed", () => client.status !== "ready");
      for (let n = 0; n < 1500; n++) audit.note(numbered(n));
      expect(log.said("audit")).to.have.length(1500);
      expect(audit.lost()).to.equal(500);
      await until("it has tried", () => log.said("audit entries wait for redis").length === 1);
      await server().restart();
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
      server().pause();
      for (let n = 0; n < 150; n++) audit.note(numbered(n));
      const before = performance.now();
      await audit.flush();
      expect(performance.now() - before).to.be.within(900, 3000);
      expect(log.said("audit entries not written to redis")).to.have.length(1);
      server().resume();
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
