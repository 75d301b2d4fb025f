import { setTimeout as sleep } from "node:timers/promises";
import { events, limits } from "@agentwire/shared";
import type { ProgressMessage } from "@agentwire/shared/redis";
import { expect } from "chai";
import { Redis } from "ioredis";
import { subject } from "../harness/emitters.js";
import { publishedProgress, steps } from "../harness/published-progress.js";
import { onTeardown } from "../harness/teardown.js";
import { until } from "../harness/wait.js";

describe("a task's progress, published", () => {
  const { server, redis, keys, emitterOf, openLine, hear, ask, asking } = publishedProgress();

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
        const task = emitterOf({ redis: face(server().url) }).task({ ...subject, attempt: 3 });
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
        expect(await redis().dbsize()).to.equal(0);
      });

      it("[D28] 10,000 rapid steps: few updates, in order, the last one at once, nothing stored", async () => {
        const nodes = await hear(keys.progress("project-1"));
        const task = emitterOf({ redis: face(server().url) }).task(subject);
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
        expect(await redis().dbsize()).to.equal(0);
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
        expect(await redis().dbsize()).to.equal(0);
      });

      it("[D28] while Redis hangs nothing is lost but what is old", async () => {
        const nodes = await hear(keys.progress("project-1"));
        const task = emitterOf({ redis: face(server().url), progressBatchMs: 1 }).task(subject);
        task.progress(steps(1));
        await until("the first step", () => nodes.heard.length > 0);
        server().pause();
        onTeardown(() => void server().resume());
        for (let step = 2; step <= 100; step++) {
          task.progress(steps(step));
          await sleep(3);
        }
        // Until what was under way has failed, with newer ones waiting.
        await sleep(limits.publishTimeoutMs + 300);
        server().resume();
        await until("the last step", () => nodes.payloads().at(-1)?.current_step === 100);
        const percents = nodes.payloads().map(({ progress_percent }) => progress_percent);
        expect(percents).to.deep.equal([...percents].sort((a, b) => a - b));
        expect(new Set(percents).size).to.be.below(10);
      });

      it("[D28] a node that asks gets the newest of each running task, with the same event_id", async () => {
        const emitter = emitterOf({ redis: face(server().url) });
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
        const emitter = emitterOf({ redis: face(server().url) });
        emitter.task(subject).progress(steps(5));
        await asking();
        await server().restart();
        await asking();
        const nodes = await hear(keys.progress("project-1"));
        await sleep(2 * limits.progressBatchMs);
        nodes.clear();
        await ask();
        await until("it is said again", () => nodes.payloads()[0]?.current_step === 5);
      });
    });
  }
});
