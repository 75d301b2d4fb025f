import { once } from "node:events";
import type { TaskReport, TaskSubject } from "@agentwire/emitter";
import { AgentwireError, limits } from "@agentwire/shared";
import { expect } from "chai";
import { subject } from "../harness/emitters.js";
import { publishedProgress, steps } from "../harness/published-progress.js";

describe("a task's progress, published", () => {
  const { server, redis, keys, emitterOf, hear } = publishedProgress();

  it("[D28] what Redis refuses for good is a warning of the process", async () => {
    await redis().call("ACL", "SETUSER", "mute", "on", "nopass", "~*", "+@all", "resetchannels");
    const warned = once(process, "warning");
    emitterOf({ redis: server().url.replace("//", "//mute:x@") })
      .task(subject)
      .progress(steps(1));
    const [warning] = await warned;
    await redis().call("ACL", "DELUSER", "mute");
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
      redis: { evalsha: (...args) => redis().evalsha(...args), eval: (...args) => redis().eval(...args) },
    });
    expect(() => scripts.task(subject))
      .to.throw(AgentwireError, "publish")
      .with.property("code", "BAD_REQUEST");
    expect(await scripts.agentStatus({ ...subject, new_status: "completed" })).to.include({
      duplicate: false,
    });
  });
});
