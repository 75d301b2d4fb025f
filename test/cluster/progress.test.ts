import { randomUUID } from "node:crypto";
import { stamp } from "@agentwire/shared";
import type { ProgressMessage } from "@agentwire/shared/redis";
import { expect } from "chai";
import { sharedCluster, startCluster } from "../harness/cluster.js";
import type { Viewer } from "../harness/viewer.js";
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
const percents = (viewer: Viewer, task: string) =>
  viewer
    .payloads("PROGRESS_UPDATE")
    .filter(({ task_id }) => task_id === task)
    .map(({ progress_percent }) => progress_percent);

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
  const listening = (project: string, nodes: number) =>
    until(`${nodes} nodes listen to ${project}`, async () => {
      const [, count] = await cluster().client().pubsub("NUMSUB", cluster().keys.progress(project));
      return Number(count) === nodes;
    });

  it("[D28] reaches whoever may and wants to see it, on each node, and nobody else", async () => {
    const { viewer } = cluster();
    const all = await (await viewer({ on: 1 })).joined();
    const agent = await (await viewer({ on: 2, query: { agent_ids: "a-p1" } })).joined();
    const statuses = await (await viewer({ on: 2, query: { event_types: "STATUS_CHANGED" } })).joined();
    const stranger = await (await viewer({ on: 2, user: "ben", projects: ["p2"] })).joined();
    await listening("p1", 2);
    await listening("p2", 1);
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
    await listening("p1", 1);
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
    await listening("p1", 1);
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
    await listening("p7", 1);
    await until("it asked", () => asked.includes("p7"));
    one.socket.disconnect();
    await say("t7", 10, { project: "p7" });
    await two.sees("progress", () => percents(two, "t7").length === 1);
    two.socket.disconnect();
    await listening("p7", 0);
    expect(asked.filter((project) => project === "p7")).to.have.length(1);
  });

  it("[D28] what is no progress is one log line, and delivery goes on", async () => {
    const { viewer, client, keys, node } = cluster();
    const watching = await (await viewer()).joined();
    await listening("p1", 1);
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

  describe("from workers of every kind", () => {
    const http = (task: string, current_step: number, more: object = {}, to = 1) =>
      cluster().post(
        {
          event_type: "PROGRESS_UPDATE",
          agent_id: "a-p1",
          project_id: "p1",
          task_id: task,
          payload: { current_step, total_steps: 100, message: `step ${current_step}`, ...more },
        },
        { to },
      );
    const foreign = (task: string, current_step: number, more: object = {}) => ({
      event_type: "PROGRESS_UPDATE",
      entity_type: "task",
      entity_id: task,
      payload: { agent_id: "a-p1", project_id: "p1", current_step, total_steps: 100, ...more },
    });
    /** One node has taken the lease, and listens. */
    const oneTakesIn = () =>
      until("a node takes in", async () => {
        const [, count] = await cluster().client().pubsub("NUMSUB", cluster().keys.progressReports);
        return Number(count) === 1;
      });

    it("[D28] an emitter: batched, with steps and message; a viewer on a node that did not listen gets the newest", async () => {
      const { viewer, worker } = cluster();
      const watching = await (await viewer({ user: "emil", projects: ["p9"], on: 1 })).joined();
      await listening("p9", 1);
      const task = worker().task({ task_id: "t20", agent_id: "a-p9", project_id: "p9" });
      for (let step = 1; step <= 10; step++)
        task.progress({ current_step: step, total_steps: 50, message: `step ${step}` });
      await watching.sees("one update", () => percents(watching, "t20").length > 0);
      const [first] = watching.payloads("PROGRESS_UPDATE");
      expect(first).to.deep.include({
        current_step: 10,
        total_steps: 50,
        progress_percent: 20,
        message: "step 10",
        batched_updates: 10,
      });
      const late = await (await viewer({ user: "fay", projects: ["p9"], on: 2 })).joined();
      await late.sees("the newest", () => percents(late, "t20").length > 0);
      expect(percents(late, "t20")).to.deep.equal([20]);
      task.progress({ current_step: 50, total_steps: 50 });
      for (const one of [watching, late]) await one.sees("the end", () => percents(one, "t20").includes(100));
      expect(percents(watching, "t20")).to.deep.equal([20, 100]);
      const later = await (await viewer({ user: "gus", projects: ["p9"], on: 2 })).joined();
      expect(percents(later, "t20")).to.deep.equal([]);
    });

    it("[D28] HTTP, through any node, and PUBLISH: once each, in one batch, with an estimate from the third update on", async () => {
      const { viewer, client, keys } = cluster();
      const watching = await (await viewer({ on: 2 })).joined();
      await listening("p1", 1);
      await oneTakesIn();
      const answers: Response[] = [];
      for (let step = 1; step <= 5; step++) {
        answers.push(await http("t21", step * 10, {}, (step % 2) + 1));
        await client().publish(keys.bus("PROGRESS_UPDATE"), JSON.stringify(foreign("t22", step * 10)));
        await watching.sees(
          "both",
          () =>
            percents(watching, "t21").includes(step * 10) && percents(watching, "t22").includes(step * 10),
        );
      }
      for (const answer of answers) {
        expect(answer.status).to.equal(202);
        expect(await answer.json()).to.deep.include({ sequence_id: null, duplicate: false });
      }
      for (const task of ["t21", "t22"]) {
        const updates = watching.payloads("PROGRESS_UPDATE").filter(({ task_id }) => task_id === task);
        expect(updates.map(({ current_step }) => current_step)).to.deep.equal([10, 20, 30, 40, 50]);
        const estimates = updates.map((update) => update.estimated_seconds_remaining);
        expect(estimates.slice(0, 2)).to.deep.equal([null, null]);
        for (const estimate of estimates.slice(2)) expect(estimate).to.be.a("number").and.be.at.least(0);
      }
      // Who comes now hears of both, from the node that takes them in.
      const late = await (await viewer({ user: "hal", on: 1 })).joined();
      await late.sees(
        "the newest of both",
        () => percents(late, "t21").length > 0 && percents(late, "t22").length > 0,
      );
    });

    it("[D13] bad reports: 400 naming the field; on the bus one log line on one node", async () => {
      const { client, keys, nodes } = cluster();
      await oneTakesIn();
      for (const [field, more] of [
        ["current_step", { current_step: 101 }],
        ["current_step", { current_step: -1 }],
        ["total_steps", { total_steps: 0 }],
        ["progress_percent", { progress_percent: 101 }],
        ["current_step", { current_step: null, total_steps: null }],
        ["attempt", { attempt: 0 }],
        ["task_id", { task_id: "another" }],
      ] as const) {
        const answer = await http("t23", 1, more);
        expect(answer.status, field).to.equal(400);
        const { error } = (await answer.json()) as { error: { code: string; message: string } };
        expect(error.code).to.equal("INVALID_EVENT");
        expect(error.message).to.include(field);
      }
      const before = nodes.map(({ log }) => log.length);
      const bad = [
        "",
        "7",
        JSON.stringify(foreign("t 23", 1)),
        JSON.stringify({ ...foreign("t23", 1), entity_type: "agent" }),
      ];
      for (const text of bad) await client().publish(keys.bus("PROGRESS_UPDATE"), text);
      const said = () =>
        nodes.flatMap(({ log }, n) =>
          log.slice(before[n]).filter(({ msg }) => msg === "bus message refused"),
        );
      await until("a line for each", () => said().length === bad.length);
    });
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

describe("progress when nodes die", () => {
  it("[D28] another node takes foreign reports in", async () => {
    const cluster = await startCluster({ nodes: 2 });
    const { viewer, client, keys, post, nodes } = cluster;
    const holder = await until("a node takes in", async () => {
      const name = await client().get(keys.busLease);
      return nodes.find(({ id }) => name?.startsWith(`${id}:`));
    });
    const other = nodes.findIndex((node) => node !== holder) + 1;
    const watching = await (await viewer({ on: other })).joined();
    const say = (step: number) =>
      post(
        {
          event_type: "PROGRESS_UPDATE",
          agent_id: "a1",
          project_id: "p1",
          task_id: "t1",
          payload: { current_step: step, total_steps: 10 },
        },
        { to: other },
      );
    await until("it is taken", async () => (await say(1)).status === 202);
    await watching.sees("it", () => percents(watching, "t1").length > 0);
    await holder.kill();
    await until("the other takes in", async () => (await say(2)).status === 202);
    await watching.sees("the next", () => percents(watching, "t1").includes(20));
  });
});
