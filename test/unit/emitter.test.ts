import { createEmitter, type Emitter, PublishError, type StatusChange } from "@agentwire/emitter";
import { AgentwireError, limits } from "@agentwire/shared";
import { expect } from "chai";
import type { Redis } from "ioredis";
import { readLog } from "../harness/events-log.js";
import { ownLiveBytes } from "../harness/memory.js";
import { sharedRedis } from "../harness/redis.js";
import { until } from "../harness/wait.js";

const change = (more: Partial<StatusChange> = {}): StatusChange => ({
  agent_id: "agent-1",
  project_id: "project-1",
  new_status: "working",
  ...more,
});

/** The error that a promise rejects with; an error here when it does not. */
async function rejection(promise: Promise<unknown>): Promise<unknown> {
  try {
    await promise;
  } catch (error) {
    return error;
  }
  throw new Error("it was expected to reject, and did not");
}

describe("emitter", () => {
  const { server, redis, keys } = sharedRedis();

  const faces: [string, () => string | Redis][] = [
    ["a URL", () => server().url],
    ["a client of the caller", () => server().client()],
  ];
  for (const [title, face] of faces) {
    describe(`with ${title}`, () => {
      let emitter: Emitter;
      beforeEach(() => {
        emitter = createEmitter({ redis: face() });
      });
      afterEach(() => emitter.close());

      it("[D1] a confirmed publish is in the log under the sequence_id that was returned", async () => {
        const { event_id, sequence_id, duplicate } = await emitter.agentStatus(
          change({ task_id: "task-1", message: "line\nand ü", progress: 12.5, attempt: 2 }),
        );
        const [entry, ...more] = await readLog(redis());
        expect(more).to.have.length(0);
        expect(duplicate).to.equal(false);
        expect(entry?.id).to.equal(sequence_id);
        expect(entry?.envelope).to.include({
          event_id,
          event_type: "AGENT_STATUS_CHANGED",
          priority: "HIGH",
        });
        expect(entry?.envelope.payload).to.deep.equal({
          agent_id: "agent-1",
          project_id: "project-1",
          task_id: "task-1",
          old_status: null,
          new_status: "working",
          progress: 12.5,
          message: "line\nand ü",
          attempt: 2,
        });
      });

      it("[D1] the same event_id twice is one entry with one sequence_id", async () => {
        const first = await emitter.agentStatus(change({ event_id: "event-1" }));
        const second = await emitter.agentStatus(change({ event_id: "event-1", new_status: "failed" }));
        expect(second).to.deep.equal({ ...first, duplicate: true });
        expect(await readLog(redis())).to.have.length(1);
        expect(await redis().hget(keys.agent("agent-1"), "status")).to.equal("working");
      });

      it("[D2] while Redis hangs a publish is UNAVAILABLE within 1 s; repeated, it is one entry", async () => {
        await emitter.agentStatus(change({ event_id: "before" }));
        server().pause();
        let error: unknown;
        const started = performance.now();
        try {
          error = await rejection(emitter.agentStatus(change({ new_status: "completed" })));
        } finally {
          server().resume();
        }
        expect(performance.now() - started).to.be.below(2 * limits.publishTimeoutMs);
        expect(error).to.be.instanceOf(PublishError).and.include({ code: "UNAVAILABLE", retry: "later" });
        const { event_id } = error as PublishError;

        const repeated = await emitter.agentStatus(change({ new_status: "completed", event_id }));
        const log = await readLog(redis());
        expect(log.map(({ envelope }) => envelope.event_id)).to.deep.equal(["before", event_id]);
        expect(log[1]?.id).to.equal(repeated.sequence_id);
      });
    });
  }

  describe("what it publishes and refuses", () => {
    let emitter: Emitter;
    beforeEach(() => {
      emitter = createEmitter({ redis: server().url });
    });
    afterEach(() => emitter.close());

    it("[D1] old_status is the agent's last status, and null the first time", async () => {
      for (const new_status of ["working", "stuck", "completed"] as const) {
        await emitter.agentStatus(change({ new_status }));
      }
      await emitter.agentStatus(change({ new_status: "idle", old_status: "cancelled" }));
      await emitter.agentStatus(change({ agent_id: "agent-2" }));
      const log = await readLog(redis());
      expect(log.map(({ envelope }) => envelope.payload.old_status)).to.deep.equal([
        null,
        "working",
        "stuck",
        "cancelled",
        null,
      ]);
      expect(log.map(({ prev }) => prev)).to.deep.equal(["0-0", ...log.map(({ id }) => id).slice(0, -1)]);
    });

    it("[D1] the prefix chosen is the prefix written", async () => {
      const other = createEmitter({ redis: redis(), keyPrefix: "{other}" });
      await other.agentStatus(change());
      await other.close();
      expect(await readLog(redis(), "{other}")).to.have.length(1);
      expect(await redis().keys("ws:*")).to.deep.equal([]);
      expect(await redis().ping(), "the caller's client is left open").to.equal("PONG");
    });

    it("[D2] changes that were said while Redis was away come in the order they were said", async () => {
      let failed = 0;
      let away = true;
      const fail = async () => {
        failed++;
        throw new Error("Connection is closed.");
      };
      const through = createEmitter({
        redis: {
          evalsha: (...args) => (away ? fail() : redis().evalsha(...args)),
          eval: (...args) => (away ? fail() : redis().eval(...args)),
        },
      });
      const order = ["idle", "working", "stuck", "failed"] as const;
      const say = (...news: StatusChange["new_status"][]) =>
        news.map((new_status) => through.agentStatus(change({ new_status })));
      const said = say("idle", "working");
      while (failed < 6) await new Promise(setImmediate);
      away = false;
      // The first two are pausing; the line is free for these.
      said.push(...say("stuck", "failed"));
      await Promise.all(said);
      await through.close();
      const log = await readLog(redis());
      expect(log.map(({ envelope }) => envelope.payload.new_status)).to.deep.equal(order);
    });

    const refused: [string, object, string][] = [
      ["an unknown status", { new_status: "sleeping" }, "new_status"],
      ["an unknown old status", { old_status: "sleeping" }, "old_status"],
      ["no agent", { agent_id: undefined }, "agent_id"],
      ["no project", { project_id: undefined }, "project_id"],
      ["an empty task", { task_id: "" }, "task_id"],
      ["a control character in an id", { agent_id: "agent\u0000" }, "agent_id"],
      ["a line end after an id", { project_id: "project-1\n" }, "project_id"],
      ["a glob in an id", { project_id: "*" }, "project_id"],
      ["an id that is too long", { event_id: "e".repeat(limits.idLength + 1) }, "event_id"],
      ["progress over 100", { progress: 101 }, "progress"],
      ["attempt 0", { attempt: 0 }, "attempt"],
      ["a message that is no text", { message: 7 }, "message"],
      ["a message that is too long", { message: "x".repeat(limits.messageLength + 1) }, "message"],
    ];
    for (const [title, wrong, field] of refused) {
      it(`[D13] ${title} is INVALID_EVENT, names ${field}, and changes nothing`, async () => {
        const error = await rejection(emitter.agentStatus({ ...change(), ...wrong } as StatusChange));
        expect(error).to.be.instanceOf(AgentwireError).and.include({ code: "INVALID_EVENT", retry: "never" });
        expect((error as Error).message).to.match(new RegExp(`(^|; )${field}: `));
        expect(await redis().dbsize()).to.equal(0);
      });
    }

    it("[D13] a Redis URL that is none is refused at once", () => {
      expect(() => createEmitter({ redis: "http://127.0.0.1" })).to.throw(AgentwireError, "Redis URL");
    });

    it("[D2] when Redis is killed a publish is UNAVAILABLE, says why, and works again after a restart", async () => {
      await emitter.agentStatus(change());
      await server().kill();
      const error = await rejection(emitter.agentStatus(change({ event_id: "event-1" })));
      expect(error).to.include({ code: "UNAVAILABLE", event_id: "event-1" });
      expect((error as PublishError).message).to.include("ECONNREFUSED");
      await server().restart();
      expect(await emitter.agentStatus(change({ event_id: "event-1" }))).to.include({ duplicate: false });
    });

    describe("maxPending", () => {
      const AT_MOST = 10_000;

      it("[D2] while Redis hangs each call settles within a second, and memory is bounded", async () => {
        await emitter.agentStatus(change());
        const message = "x".repeat(2000);
        const base = ownLiveBytes();
        const codes = new Map<string, number>();
        let slowest = 0;
        server().pause();
        try {
          const calls = Array.from({ length: 3 * AT_MOST }, async (_, n) => {
            const began = performance.now();
            const error = (await rejection(
              emitter.agentStatus(change({ message, agent_id: `a-${n % 50}` })),
            )) as PublishError;
            expect(error.event_id).to.be.a("string");
            slowest = Math.max(slowest, performance.now() - began);
            const kind = `${error.code}, ${error.message.includes("full") ? "full" : "not confirmed"}`;
            codes.set(kind, (codes.get(kind) ?? 0) + 1);
          });
          await Promise.all(calls);
          expect(Object.fromEntries(codes)).to.deep.equal({
            "UNAVAILABLE, full": 2 * AT_MOST,
            "UNAVAILABLE, not confirmed": AT_MOST,
          });
          expect(slowest, "ms").to.be.below(5 * limits.publishTimeoutMs);
          await until("nothing of it is kept", () => ownLiveBytes() - base < 8 * 1_048_576);
        } finally {
          server().resume();
        }
        await until("publishing works again", () =>
          emitter.agentStatus(change()).then(
            () => true,
            () => false,
          ),
        );
      });

      it("[D2] what the caller's own client keeps counts until it gives it up; one more is not sent", async () => {
        const kept: ((answer: unknown) => void)[] = [];
        const keep = () => new Promise((resolve) => kept.push(resolve));
        const bounded = createEmitter({ redis: { evalsha: keep, eval: keep }, maxPending: 2 });
        const two = [1, 2].map((n) => rejection(bounded.agentStatus(change({ agent_id: `a-${n}` }))));
        const third = () => bounded.agentStatus(change({ event_id: "event-3" }));
        const refused = { code: "UNAVAILABLE", retry: "later", event_id: "event-3" };
        const full = await rejection(third());
        expect(full).to.be.instanceOf(PublishError).and.include(refused);
        expect((full as Error).message).to.equal(
          "not sent: 2 publishes wait for Redis already, the buffer is full",
        );
        for (const error of await Promise.all(two)) expect(error).to.include({ code: "UNAVAILABLE" });
        expect((await rejection(third())) as Error).to.include({ message: (full as Error).message });
        expect(kept).to.have.length(2);
        for (const answer of kept) answer(["1-1", 0]);
        await new Promise(setImmediate);
        const underWay = third();
        await until("it is sent", () => kept.length === 3);
        kept[2]?.(["1-2", 0]);
        expect(await underWay).to.deep.equal({ event_id: "event-3", sequence_id: "1-2", duplicate: false });
      });

      it("[D13] a bound that is none is refused", () => {
        for (const maxPending of [0, -1, 1.5, Number.NaN])
          expect(() => createEmitter({ redis: redis(), maxPending })).to.throw(AgentwireError, "maxPending");
      });
    });

    it("[D2] an error that Redis would answer again is no reason to wait", async () => {
      await redis().set(keys.events, "not a stream");
      const error = await rejection(emitter.agentStatus(change({ event_id: "event-1" })));
      expect(error).to.include({ code: "INTERNAL", event_id: "event-1" });
      expect((error as PublishError).message).to.include("WRONGTYPE");
    });

    it("[D2] a closed emitter rejects, and what was under way before is confirmed", async () => {
      const underWay = emitter.agentStatus(change());
      await emitter.close();
      expect(await underWay).to.include({ duplicate: false });
      expect(await rejection(emitter.agentStatus(change()))).to.include({ code: "UNAVAILABLE" });
    });
  });
});
