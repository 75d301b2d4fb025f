import { expect } from "chai";
import { sharedCluster, startCluster } from "../harness/cluster.js";
import { listening, percents } from "../harness/progress.js";
import { until } from "../harness/wait.js";

describe("progress", () => {
  const cluster = sharedCluster({ nodes: 2 });

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
      await listening(cluster(), "p9", 1);
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
      await listening(cluster(), "p1", 1);
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
