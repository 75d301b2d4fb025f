import { spawn } from "node:child_process";
import { once } from "node:events";
import { setTimeout as sleep } from "node:timers/promises";
import { createEmitter, type EmitterOptions, type TaskReport, type TaskSubject } from "@agentwire/emitter";
import { AgentwireError, events, limits } from "@agentwire/shared";
import { type ProgressMessage, redisKeys } from "@agentwire/shared/redis";
import { expect } from "chai";
import { Redis } from "ioredis";
import { openFront } from "../harness/front.js";
import { needs } from "../harness/needs.js";
import { type RedisServer, startRedis } from "../harness/redis.js";
import { onTeardown } from "../harness/teardown.js";
import { until } from "../harness/wait.js";

const subject = { task_id: "task-1", agent_id: "agent-1", project_id: "project-1" };
const keys = redisKeys();
const steps = (current_step: number, total_steps = 100) => ({ current_step, total_steps });

describe("a task's progress, published", () => {
  needs("REDIS");
  let server: RedisServer;
  let redis: Redis;

  before(async () => {
    server = await startRedis();
    redis = server.client();
  });
  beforeEach(() => redis.flushall());
  after(() => server?.stop());

  function emitterOf(options: Partial<EmitterOptions> = {}) {
    const emitter = createEmitter({ redis: server.url, ...options });
    onTeardown(() => emitter.close());
    return emitter;
  }

  /** What is heard on channels, in order; it comes back after an outage as a node does. */
  async function hear(...channels: string[]) {
    const subscriber = server.client();
    const heard: { channel: string; text: string }[] = [];
    subscriber.on("message", (channel, text) => heard.push({ channel, text }));
    await subscriber.subscribe(...channels);
    onTeardown(() => subscriber.disconnect());
    const messages = (): ProgressMessage[] =>
      heard.filter(({ channel }) => !channel.startsWith("events:")).map(({ text }) => JSON.parse(text));
    const updates = () => [
      ...new Map(messages().map((message) => [message.envelope.event_id, message])).values(),
    ];
    return {
      heard,
      messages,
      /** Each once: when the emitter begins to listen it says again what runs. */
      updates,
      payloads: () => updates().map(({ envelope }) => envelope.payload),
      clear: () => heard.splice(0),
      /** Everything that was published before this has been heard after it. */
      async settled() {
        await redis.ping();
        await subscriber.ping();
      },
    };
  }
  const ask = (project_id = subject.project_id) =>
    redis.publish(keys.progressAsked, JSON.stringify({ project_id }));
  const asking = () =>
    until("the emitter listens", async () => {
      const [, count] = (await redis.pubsub("NUMSUB", keys.progressAsked)) as [string, number];
      return Number(count) > 0;
    });

  /** The line from the emitter to Redis, which can be down while the nodes' is not. */
  async function openLine() {
    let up = true;
    const redisServer = {
      get alive() {
        return up;
      },
      port: server.port,
    };
    const front = await openFront([redisServer], 1);
    onTeardown(() => front.close());
    return {
      url: front.url.replace("http:", "redis:"),
      down() {
        up = false;
        front.cut();
      },
      up() {
        up = true;
      },
    };
  }

  function borrowed(url: string, { queues }: { queues: boolean }) {
    const client = new Redis(url, {
      disconnectTimeout: 100,
      enableOfflineQueue: queues,
      maxRetriesPerRequest: queues ? 20 : 0,
      autoResubscribe: queues,
    });
    client.on("error", () => {});
    onTeardown(() => client.disconnect());
    return client;
  }

  const faces: [string, (url: string) => string | Redis][] = [
    ["a URL", (url) => url],
    ["a client of the caller", (url) => borrowed(url, { queues: true })],
    ["a client of the caller that queues nothing", (url) => borrowed(url, { queues: false })],
  ];
  for (const [title, face] of faces) {
    describe(`with ${title}`, () => {
      it("[D28] an update is on the project's channel and on the bus, under one event_id, and nowhere else", async () => {
        const nodes = await hear(keys.progress("project-1"), keys.bus("PROGRESS_UPDATE"));
        const task = emitterOf({ redis: face(server.url) }).task({ ...subject, attempt: 3 });
        task.progress({ ...steps(1, 10), message: "reading" });
        task.progress({ ...steps(2, 10), message: "writing\nü" });
        await until("both messages", () => new Set(nodes.heard.map(({ channel }) => channel)).size === 2);

        const [{ attempt, envelope } = {} as ProgressMessage] = nodes.messages();
        expect(attempt).to.equal(3);
        expect(envelope).to.include({ event_type: "PROGRESS_UPDATE", priority: "NORMAL" });
        const payload = events.PROGRESS_UPDATE.payload.parse(envelope.payload);
        expect(payload).to.deep.equal({
          ...subject,
          current_step: 2,
          total_steps: 10,
          progress_percent: 20,
          message: "writing\nü",
          estimated_seconds_remaining: null,
          batched_updates: 2,
        });
        const bus = nodes.heard.find(({ channel }) => channel === "events:PROGRESS_UPDATE");
        expect(JSON.parse(bus?.text ?? "")).to.deep.equal({
          event_type: "PROGRESS_UPDATE",
          entity_type: "task",
          entity_id: "task-1",
          timestamp: envelope.timestamp,
          event_id: envelope.event_id,
          origin: "agentwire",
          payload,
        });
        expect(await redis.dbsize()).to.equal(0);
      });

      it("[D28] 10,000 rapid steps: few updates, in order, the last one at once, nothing stored", async () => {
        const nodes = await hear(keys.progress("project-1"));
        const task = emitterOf({ redis: face(server.url) }).task(subject);
        for (let step = 1; step <= 10_000; step++) {
          task.progress(steps(step, 10_000));
          if (step % 500 === 0) await sleep(5);
        }
        await until("the last step", () =>
          nodes.payloads().some(({ current_step }) => current_step === 10_000),
        );
        const said = nodes.messages().map(({ envelope }) => envelope.payload.current_step ?? 0);
        expect(said).to.deep.equal([...said].sort((a, b) => a - b));
        expect(said.length).to.be.below(50);
        expect(nodes.payloads().reduce((sum, { batched_updates }) => sum + batched_updates, 0)).to.equal(
          10_000,
        );
        expect(nodes.payloads().at(-1)).to.include({ progress_percent: 100, estimated_seconds_remaining: 0 });
        expect(await redis.dbsize()).to.equal(0);
      });

      it("[D28] while Redis is away only the newest of each task is kept, and comes when it is back", async () => {
        const line = await openLine();
        const nodes = await hear(keys.progress("project-1"));
        const emitter = emitterOf({ redis: face(line.url), progressBatchMs: 1 });
        const [one, other] = [emitter.task(subject), emitter.task({ ...subject, task_id: "task-2" })];
        one.progress(steps(1));
        await until("the first step", () => nodes.heard.length > 0);
        line.down();
        for (let step = 2; step <= 100; step++) {
          one.progress(steps(step));
          if (step <= 30) other.progress(steps(step));
          await sleep(3);
        }
        await nodes.settled();
        nodes.clear();
        line.up();
        await until("the newest of both", () => {
          const said = nodes.payloads().map(({ task_id, current_step }) => `${task_id} ${current_step}`);
          return said.includes("task-1 100") && said.includes("task-2 30");
        });
        for (const task_id of ["task-1", "task-2"]) {
          const percents = nodes
            .payloads()
            .filter((payload) => payload.task_id === task_id)
            .map(({ progress_percent }) => progress_percent);
          expect(percents).to.deep.equal([...percents].sort((a, b) => a - b));
          // A client of the caller may have queued one before; we add none.
          expect(new Set(percents).size).to.be.at.most(2);
        }
        expect(await redis.dbsize()).to.equal(0);
      });

      it("[D28] while Redis hangs nothing is lost but what is old", async () => {
        const nodes = await hear(keys.progress("project-1"));
        const task = emitterOf({ redis: face(server.url), progressBatchMs: 1 }).task(subject);
        task.progress(steps(1));
        await until("the first step", () => nodes.heard.length > 0);
        server.pause();
        onTeardown(() => void server.resume());
        for (let step = 2; step <= 100; step++) {
          task.progress(steps(step));
          await sleep(3);
        }
        // Until what was under way has failed, with newer ones waiting.
        await sleep(limits.publishTimeoutMs + 300);
        server.resume();
        await until("the last step", () => nodes.payloads().at(-1)?.current_step === 100);
        const percents = nodes.payloads().map(({ progress_percent }) => progress_percent);
        expect(percents).to.deep.equal([...percents].sort((a, b) => a - b));
        expect(new Set(percents).size).to.be.below(10);
      });

      it("[D28] a node that asks gets the newest of each running task, with the same event_id", async () => {
        const emitter = emitterOf({ redis: face(server.url) });
        const nodes = await hear(
          keys.progress("project-1"),
          keys.progress("project-2"),
          keys.bus("PROGRESS_UPDATE"),
        );
        emitter.task(subject).progress(steps(5));
        emitter.task({ ...subject, task_id: "task-2" }).progress(steps(6));
        const done = emitter.task({ ...subject, task_id: "done" });
        done.progress(steps(50));
        emitter.task({ ...subject, project_id: "project-2" }).progress(steps(7));
        await asking();
        await until("what was said", () => nodes.payloads().length === 4);
        done.progress(steps(100));
        await sleep(2 * limits.progressBatchMs);
        const before = nodes.messages();
        nodes.clear();

        await ask();
        await until("both again", () => nodes.heard.length >= 2);
        await nodes.settled();
        expect(nodes.heard.map(({ channel }) => channel)).to.deep.equal(
          Array(2).fill(keys.progress("project-1")),
        );
        for (const message of nodes.messages()) expect(before).to.deep.include(message);
        expect(nodes.payloads().map(({ task_id }) => task_id)).to.have.members(["task-1", "task-2"]);
      });

      it("[D28] after a restart of Redis it is asked as before", async () => {
        const emitter = emitterOf({ redis: face(server.url) });
        emitter.task(subject).progress(steps(5));
        await asking();
        await server.restart();
        await asking();
        const nodes = await hear(keys.progress("project-1"));
        await sleep(2 * limits.progressBatchMs);
        nodes.clear();
        await ask();
        await until("it is said again", () => nodes.payloads()[0]?.current_step === 5);
      });
    });
  }

  it("[D28] when it did not hear for a while it says all again: who asked meanwhile asked in vain", async () => {
    const line = await openLine();
    const nodes = await hear(keys.progress("project-1"));
    const emitter = emitterOf({ redis: line.url });
    emitter.task(subject).progress(steps(5));
    await asking();
    await until("it was said", () => nodes.heard.length > 0);
    await sleep(2 * limits.progressBatchMs);
    line.down();
    await nodes.settled();
    nodes.clear();
    line.up();
    await until("it is said again", () => nodes.payloads()[0]?.current_step === 5);
  });

  it("[D28] a node asks often: each project is said again once per 100 ms, and once more after the last question", async () => {
    const emitter = emitterOf();
    const nodes = await hear(keys.progress("project-1"));
    emitter.task(subject).progress(steps(5));
    await asking();
    await until("it was said", () => nodes.heard.length > 0);
    await sleep(2 * limits.progressBatchMs);
    nodes.clear();
    const started = Date.now();
    for (let n = 0; n < 200; n++) {
      await ask();
      await sleep(1);
    }
    const lastAsked = nodes.heard.length;
    await until("an answer to the last question", () => nodes.heard.length > lastAsked);
    const periods = (Date.now() - started) / limits.progressBatchMs;
    expect(nodes.heard.length)
      .to.be.at.least(3)
      .and.at.most(Math.floor(periods) + 1);
  });

  it("[D28] what is no question is ignored", async () => {
    const emitter = emitterOf();
    const nodes = await hear(keys.progress("project-1"));
    emitter.task(subject).progress(steps(5));
    await asking();
    await until("it was said", () => nodes.heard.length > 0);
    for (const text of [
      "",
      "{",
      "null",
      "7",
      '"project-1"',
      "{}",
      '{"project_id":7}',
      '{"project_id":"other"}',
    ]) {
      await redis.publish(keys.progressAsked, text);
    }
    await sleep(2 * limits.progressBatchMs);
    nodes.clear();
    await ask();
    await until("a true question is answered", () => nodes.heard.length > 0);
    await nodes.settled();
    expect(nodes.heard).to.have.length(1);
  });

  for (const new_status of ["completed", "failed", "cancelled"] as const) {
    it(`[D28] "${new_status}" ends a task: what was gathered leaves before, and nothing is said again`, async () => {
      const emitter = emitterOf({ progressBatchMs: 60_000 });
      const nodes = await hear(keys.progress("project-1"), keys.bus("AGENT_STATUS_CHANGED"));
      const task = emitter.task({ ...subject, attempt: 2 });
      task.progress(steps(5));
      await asking();
      await emitter.agentStatus({ ...subject, new_status: "working", attempt: 2 });
      await emitter.agentStatus({ ...subject, new_status, attempt: 1 });
      await until("the status", () => nodes.heard.length >= 3);
      await sleep(2 * limits.progressBatchMs);
      nodes.clear();
      await ask();
      await until(
        "the first try's end does not end the second",
        () => nodes.payloads()[0]?.current_step === 5,
      );

      task.progress(steps(6));
      await sleep(2 * limits.progressBatchMs);
      nodes.clear();
      await emitter.agentStatus({ ...subject, new_status, attempt: 2 });
      await until("progress and status", () => nodes.heard.length === 2);
      expect(nodes.heard.map(({ channel }) => channel)).to.deep.equal([
        keys.progress("project-1"),
        keys.bus("AGENT_STATUS_CHANGED"),
      ]);
      nodes.clear();
      await ask();
      await sleep(2 * limits.progressBatchMs);
      await nodes.settled();
      expect(nodes.heard).to.have.length(0);
    });
  }

  it("[D28] progress never goes backwards within an attempt, and a new attempt starts over", async () => {
    const nodes = await hear(keys.progress("project-1"));
    const emitter = emitterOf({ progressBatchMs: 0 });
    const said: [TaskSubject, TaskReport][] = [
      [subject, steps(5)],
      [subject, steps(4)],
      [subject, { progress_percent: 4.9 }],
      [{ ...subject, attempt: 2 }, { progress_percent: 1 }],
      [subject, steps(99)],
      [{ ...subject, attempt: 2 }, { progress_percent: 2 }],
    ];
    for (const [its, report] of said) {
      emitter.task(its).progress(report);
      await sleep(20);
    }
    await until("the last one", () => nodes.payloads().at(-1)?.progress_percent === 2);
    expect(
      nodes.updates().map(({ attempt, envelope }) => [attempt, envelope.payload.progress_percent]),
    ).to.deep.equal([
      [1, 5],
      [2, 1],
      [2, 2],
    ]);
  });

  it("[D28] close lets what was gathered out, and leaves no connection", async () => {
    const nodes = await hear(keys.progress("project-1"));
    const emitter = createEmitter({ redis: server.url });
    const task = emitter.task(subject);
    task.progress(steps(42));
    await emitter.close();
    await until("the last value", () => nodes.payloads()[0]?.current_step === 42);
    expect(() => task.progress(steps(43)))
      .to.throw(AgentwireError, "closed")
      .with.property("code", "UNAVAILABLE");
    await until("no emitter listens", async () => {
      const [, count] = (await redis.pubsub("NUMSUB", keys.progressAsked)) as [string, number];
      return Number(count) === 0;
    });
  });

  it("[D28] close waits a second at most while Redis is away, and a process can end after it", async () => {
    const away = createEmitter({ redis: "redis://127.0.0.1:1" });
    away.task(subject).progress(steps(42));
    const started = performance.now();
    await away.close();
    expect(performance.now() - started).to.be.within(900, 2000);

    const program = `import { createEmitter } from "@agentwire/emitter";
      for (const redis of process.argv.slice(1)) {
        const emitter = createEmitter({ redis });
        emitter.task(${JSON.stringify(subject)}).progress({ progress_percent: 1 });
        await emitter.close();
      }`;
    const args = ["--input-type=module", "--eval", program, server.url, "redis://127.0.0.1:1"];
    const child = spawn(process.execPath, args, { stdio: "inherit" });
    onTeardown(() => void child.kill("SIGKILL"));
    expect(await once(child, "exit")).to.deep.equal([0, null]);
  });

  it("[D28] a client of the caller stays open and gets no subscription of its own", async () => {
    const client = server.client();
    const emitter = createEmitter({ redis: client });
    emitter.task(subject).progress(steps(1));
    await asking();
    expect(client.mode).to.equal("normal");
    await emitter.close();
    expect(await client.ping()).to.equal("PONG");
  });

  it("[D28] the prefixes chosen are the prefixes of the channels", async () => {
    const other = redisKeys("{other}", "bus.");
    const nodes = await hear(other.progress("project-1"), other.bus("PROGRESS_UPDATE"));
    emitterOf({ keyPrefix: "{other}", busPrefix: "bus." }).task(subject).progress(steps(1));
    await until("both", () => new Set(nodes.heard.map(({ channel }) => channel)).size === 2);
    await sleep(2 * limits.progressBatchMs);
    nodes.clear();
    await redis.publish(other.progressAsked, JSON.stringify({ project_id: "project-1" }));
    await until("again", () => nodes.heard[0]?.channel === other.progress("project-1"));
  });

  it("[D28] WS_PROGRESS_BATCH_MS is the time of a batch, and a bad one is refused", async () => {
    const set = (value: string | undefined) => {
      if (value === undefined) delete process.env.WS_PROGRESS_BATCH_MS;
      else process.env.WS_PROGRESS_BATCH_MS = value;
    };
    const before = process.env.WS_PROGRESS_BATCH_MS;
    onTeardown(() => set(before));
    for (const bad of ["soon", "-1", "1.5", "60001"]) {
      set(bad);
      expect(() => createEmitter({ redis: server.url }), bad)
        .to.throw(AgentwireError, "WS_PROGRESS_BATCH_MS")
        .with.property("code", "BAD_REQUEST");
    }
    set("60000");
    const nodes = await hear(keys.progress("project-1"));
    const emitter = emitterOf();
    set("");
    const task = emitter.task(subject);
    task.progress(steps(1));
    await sleep(3 * limits.progressBatchMs);
    await nodes.settled();
    expect(nodes.heard).to.have.length(0);
    task.progress(steps(100));
    await until("the last one leaves at once", () => nodes.payloads()[0]?.batched_updates === 2);
  });

  it("[D28] what Redis refuses for good is a warning of the process", async () => {
    await redis.call("ACL", "SETUSER", "mute", "on", "nopass", "~*", "+@all", "resetchannels");
    const warned = once(process, "warning");
    emitterOf({ redis: server.url.replace("//", "//mute:x@") })
      .task(subject)
      .progress(steps(1));
    const [warning] = await warned;
    await redis.call("ACL", "DELUSER", "mute");
    expect(String(warning)).to.match(/AgentwireWarning: progress .*NOPERM/);
  });

  const both = "current_step and total_steps, or progress_percent, are needed";
  const refused: [string, object, string][] = [
    ["no report", {}, both],
    ["a step without a total", { current_step: 1 }, both],
    ["a step beyond the total", { current_step: 11, total_steps: 10 }, "current_step is beyond total_steps"],
    ["a negative step", { current_step: -1, total_steps: 10 }, "current_step: "],
    ["half a step", { current_step: 0.5, total_steps: 10 }, "current_step: "],
    ["a total of 0", { current_step: 0, total_steps: 0 }, "total_steps: "],
    ["percent over 100", { progress_percent: 100.1 }, "progress_percent: "],
    ["percent that is no number", { progress_percent: Number.NaN }, "progress_percent: "],
    ["a message that is no text", { progress_percent: 1, message: 7 }, "message: "],
    [
      "a message that is too long",
      { progress_percent: 1, message: "x".repeat(limits.messageLength + 1) },
      "message: ",
    ],
  ];
  for (const [title, report, words] of refused) {
    it(`[D13] ${title} is INVALID_EVENT at once, says "${words}", and changes nothing`, async () => {
      const nodes = await hear(keys.progress("project-1"));
      const emitter = emitterOf({ progressBatchMs: 0 });
      const task = emitter.task(subject);
      expect(() => task.progress(report as TaskReport))
        .to.throw(AgentwireError, words)
        .with.property("code", "INVALID_EVENT");
      await emitter.close();
      await nodes.settled();
      expect(nodes.heard).to.have.length(0);
    });
  }

  for (const [field, wrong] of [
    ["task_id", undefined],
    ["task_id", "a/b"],
    ["agent_id", ""],
    ["project_id", "*"],
    ["attempt", 0],
  ] as const) {
    it(`[D13] a task whose ${field} is ${JSON.stringify(wrong)} is INVALID_EVENT at once, and names it`, () => {
      expect(() => emitterOf().task({ ...subject, [field]: wrong } as TaskSubject))
        .to.throw(AgentwireError, `${field}: `)
        .with.property("code", "INVALID_EVENT");
    });
  }

  it("[D13] a client that cannot publish is refused when a task is asked for, and serves statuses as before", async () => {
    const scripts = emitterOf({
      redis: { evalsha: (...args) => redis.evalsha(...args), eval: (...args) => redis.eval(...args) },
    });
    expect(() => scripts.task(subject))
      .to.throw(AgentwireError, "publish")
      .with.property("code", "BAD_REQUEST");
    expect(await scripts.agentStatus({ ...subject, new_status: "completed" })).to.include({
      duplicate: false,
    });
  });
});
