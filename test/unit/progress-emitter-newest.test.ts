import { setTimeout as sleep } from "node:timers/promises";
import type { TaskReport, TaskSubject } from "@agentwire/emitter";
import { limits } from "@agentwire/shared";
import { expect } from "chai";
import { subject } from "../harness/emitters.js";
import { publishedProgress, steps } from "../harness/published-progress.js";
import { until } from "../harness/wait.js";

describe("a task's progress, published", () => {
  const { redis, keys, emitterOf, openLine, hear, ask, asking } = publishedProgress();

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
      await redis().publish(keys.progressAsked, text);
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
});
