import { randomUUID } from "node:crypto";
import { stamp } from "@agentwire/shared";
import type { ProgressMessage } from "@agentwire/shared/redis";
import { expect } from "chai";
import { sharedCluster, startCluster } from "../harness/cluster.js";
import { listening, percents } from "../harness/progress.js";
import { until } from "../harness/wait.js";

const payload = (task_id: string, progress_percent: number, project_id = "p1") => ({
  task_id,
  agent_id: `a-${project_id}`,
  project_id,
  current_step: null,
  total_steps: null,
  progress_percent,
  message: `at ${progress_percent}`,
  estimated_seconds_remaining: null,
  batched_updates: 1,
});

describe("progress", () => {
  const cluster = sharedCluster({ nodes: 2 });

  /** What a worker says on the project's channel. @returns how many nodes heard it */
  const say = (
    task: string,
    percent: number,
    { project = "p1", attempt = 1, event_id = randomUUID() as string } = {},
  ) => {
    const message: ProgressMessage = {
      attempt,
      envelope: stamp("PROGRESS_UPDATE", event_id, payload(task, percent, project)),
    };
    return cluster().client().publish(cluster().keys.progress(project), JSON.stringify(message));
  };

  it("[D28] reaches whoever may and wants to see it, on each node, and nobody else", async () => {
    const { viewer } = cluster();
    const all = await (await viewer({ on: 1 })).joined();
    const agent = await (await viewer({ on: 2, query: { agent_ids: "a-p1" } })).joined();
    const statuses = await (await viewer({ on: 2, query: { event_types: "STATUS_CHANGED" } })).joined();
    const stranger = await (await viewer({ on: 2, user: "ben", projects: ["p2"] })).joined();
    await listening(cluster(), "p1", 2);
    await listening(cluster(), "p2", 1);
    await say("t1", 10);
    for (const one of [all, agent]) await one.sees("the first", () => percents(one, "t1").length === 1);
    await say("t2", 20, { project: "p2" });
    await say("t1", 30);
    for (const one of [all, agent]) await one.sees("both", () => percents(one, "t1").length === 2);
    await stranger.sees("its own", () => percents(stranger, "t2").length === 1);
    for (const one of [all, agent]) expect(percents(one, "t1")).to.deep.equal([10, 30]);
    expect(percents(all, "t2")).to.deep.equal([]);
    expect(percents(stranger, "t1")).to.deep.equal([]);
    expect(statuses.payloads("PROGRESS_UPDATE")).to.deep.equal([]);
    const [envelope] = all.received.filter(({ event_type }) => event_type === "PROGRESS_UPDATE");
    expect(envelope).to.include({ priority: "NORMAL" }).and.not.have.property("sequence_id");
  });

  it("[D28] never goes backwards within an attempt, and starts over with a later one", async () => {
    const { viewer } = cluster();
    const watching = await (await viewer()).joined();
    await listening(cluster(), "p1", 1);
    // One after the other: what comes in one read may be merged.
    const shown = (percent: number) =>
      watching.sees(`${percent} %`, () => percents(watching, "t3").at(-1) === percent);
    const twice = randomUUID();
    await say("t3", 50, { event_id: twice });
    await shown(50);
    await say("t3", 50, { event_id: twice });
    await say("t3", 40);
    await say("t3", 60);
    await shown(60);
    await say("t3", 5, { attempt: 2 });
    await shown(5);
    await say("t3", 70, { attempt: 1 });
    await say("t3", 6, { attempt: 2 });
    await shown(6);
    expect(percents(watching, "t3")).to.deep.equal([50, 60, 5, 6]);
  });

  it("[D28] who comes in the middle gets the newest of each running task at once; not of those that ended", async () => {
    const { viewer, worker, client, keys } = cluster();
    await (await viewer()).joined();
    await listening(cluster(), "p1", 1);
    for (const task of ["t4", "t5", "t6"]) for (const percent of [10, 20]) await say(task, percent);
    const change = { agent_id: "a-p1", project_id: "p1", task_id: "t5", new_status: "failed" as const };
    await worker().agentStatus(change);
    const watching = await (await viewer({ user: "ben" })).joined();
    await watching.sees("two tasks", () => percents(watching, "t6").length > 0);
    expect(percents(watching, "t4")).to.deep.equal([20]);
    expect(percents(watching, "t5")).to.deep.equal([]);
    expect(percents(watching, "t6")).to.deep.equal([20]);
    expect((await client().keys("*")).filter((key) => key.includes("progress"))).to.deep.equal([]);
    expect(await client().exists(keys.progress("p1"))).to.equal(0);

    // What a SUBSCRIBE adds is shown as well.
    const narrow = await (await viewer({ user: "carl", query: { event_types: "FAILED" } })).joined();
    expect((await narrow.subscribe({ event_types: ["PROGRESS"] })).ok).to.equal(true);
    await narrow.sees("the newest", () => percents(narrow, "t4").length > 0);
  });

  it("[D28] a node listens to a project as long as somebody on it watches it, and asks when it begins", async () => {
    const { viewer, client, keys } = cluster();
    const asked: string[] = [];
    const ear = client();
    await ear.subscribe(keys.progressAsked);
    ear.on("message", (_channel, text) => asked.push(JSON.parse(text).project_id));
    const one = await (await viewer({ user: "dora", projects: ["p7"], on: 1 })).joined();
    const two = await (await viewer({ user: "dora", projects: ["p7"], on: 1 })).joined();
    await listening(cluster(), "p7", 1);
    await until("it asked", () => asked.includes("p7"));
    one.socket.disconnect();
    await say("t7", 10, { project: "p7" });
    await two.sees("progress", () => percents(two, "t7").length === 1);
    two.socket.disconnect();
    await listening(cluster(), "p7", 0);
    expect(asked.filter((project) => project === "p7")).to.have.length(1);
  });

  it("[D28] what is no progress is one log line, and delivery goes on", async () => {
    const { viewer, client, keys, node } = cluster();
    const watching = await (await viewer()).joined();
    await listening(cluster(), "p1", 1);
    const before = node(1).log.length;
    const good = { attempt: 1, envelope: stamp("PROGRESS_UPDATE", "e1", payload("t8", 10)) };
    const bad = [
      "",
      "null",
      "[]",
      "{}",
      JSON.stringify({ attempt: 1 }),
      JSON.stringify({ ...good, attempt: "1" }),
      JSON.stringify({ ...good, envelope: { ...good.envelope, payload: payload("t8", 101) } }),
      JSON.stringify({ ...good, envelope: { ...good.envelope, payload: payload("t8", 10, "p2") } }),
      JSON.stringify({ ...good, envelope: { ...good.envelope, event_id: undefined } }),
    ];
    for (const text of bad) await client().publish(keys.progress("p1"), text);
    await say("t8", 20);
    await watching.sees("the good one", () => percents(watching, "t8").length === 1);
    expect(percents(watching, "t8")).to.deep.equal([20]);
    const said = node(1)
      .log.slice(before)
      .filter(({ msg }) => msg === "progress not understood");
    expect(said).to.have.length(bad.length);
  });
});

describe("progress of more tasks than a client may hear", () => {
  it("[D28] the newest of each of 300 tasks arrives, over limits and a short queue", async () => {
    const cluster = await startCluster({
      nodes: 1,
      settings: { WS_RATE_LIMIT_PER_CONNECTION: "50", WS_SEND_BUFFER_SIZE: "20" },
    });
    const watching = await (await cluster.viewer()).joined();
    const emitter = cluster.worker();
    const tasks = Array.from({ length: 300 }, (_, n) =>
      emitter.task({ task_id: `t${n}`, agent_id: "a1", project_id: "p1" }),
    );
    for (const percent of [10, 40, 70, 100]) {
      for (const task of tasks) task.progress({ progress_percent: percent });
      if (percent < 100)
        await until("some came", () => watching.payloads("PROGRESS_UPDATE").length > percent);
    }
    await watching.sees("each task's end", () => {
      const complete = watching.payloads("PROGRESS_UPDATE").filter((one) => one.progress_percent === 100);
      return new Set(complete.map(({ task_id }) => task_id)).size === 300;
    });
  });
});
