import { expect } from "chai";
import { sharedCluster } from "../harness/cluster.js";

describe("live delivery", () => {
  const cluster = sharedCluster({ nodes: 2 });

  it("[D3] one publish through each way in reaches viewers on both nodes once, with the same sequence_id", async () => {
    const { viewer, worker, post, client, keys } = cluster();
    const viewers = await Promise.all([viewer({ on: 1, user: "anna" }), viewer({ on: 2, user: "ben" })]);
    await Promise.all(viewers.map((one) => one.joined()));

    const { sequence_id } = await worker().agentStatus({
      agent_id: "a1",
      project_id: "p1",
      new_status: "working",
    });
    const answer = await post({
      event_type: "AGENT_STATUS_CHANGED",
      agent_id: "a1",
      project_id: "p1",
      payload: { new_status: "stuck", message: "waiting for a lock" },
    });
    expect(answer.status).to.equal(202);
    const published = (await answer.json()) as { sequence_id: string; duplicate: boolean };
    expect(published.duplicate).to.equal(false);
    const message = {
      event_type: "AGENT_STATUS_CHANGED",
      entity_type: "agent",
      entity_id: "a1",
      payload: { project_id: "p1", new_status: "completed" },
    };
    await client().publish(keys.bus("AGENT_STATUS_CHANGED"), JSON.stringify(message));

    for (const one of viewers) {
      await one.sees("three status changes", () => one.raw.length >= 3);
    }
    const [first, second] = viewers.map(({ raw }) => raw);
    expect(first).to.deep.equal(second);
    expect(first?.map(({ payload }) => [payload.old_status, payload.new_status])).to.deep.equal([
      [null, "working"],
      ["working", "stuck"],
      ["stuck", "completed"],
    ]);
    expect(first?.map((event) => event.sequence_id).slice(0, 2)).to.deep.equal([
      sequence_id,
      published.sequence_id,
    ]);
    expect(first?.map(({ priority }) => priority)).to.deep.equal(["HIGH", "CRITICAL", "HIGH"]);
    expect(await client().xlen(keys.events)).to.be.at.least(3);
  });
});
