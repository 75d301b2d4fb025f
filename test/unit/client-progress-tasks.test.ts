import { expect } from "chai";
import { control, HOUR, status, stores, update } from "../harness/client-progress.js";

describe("client progress", () => {
  for (const end of ["completed", "failed", "cancelled"] as const) {
    it(`[D28] stops where it is when its agent says ${end}`, () => {
      const store = stores();
      store.apply(update(10, { estimated_seconds_remaining: 18 }), 0);
      store.apply(update(60, { estimated_seconds_remaining: 8 }), 2000);
      store.apply(status(end, "5-0"), 2100);
      expect(store.get("t")).to.include({ ended: end, progress_percent: 60 });
      const stopped = { percent: 60, estimated_seconds_remaining: null, still: true };
      expect(store.at("t", 2400)).to.deep.equal(stopped);
      expect(store.at("t", 12_000)).to.deep.equal(stopped);
    });
  }

  it("[D28] only the newest status counts, and only that of the task's agent and of the task", () => {
    const store = stores();
    store.apply(update(10), 0);
    const ended = () => store.get("t")?.ended;
    store.apply(status("failed", "3-0", "another"), 1);
    store.apply(status("failed", "4-0", "a", "another"), 1);
    expect(ended(), "of another agent, of another task").to.equal(undefined);
    store.apply(status("stuck", "10-0"), 1);
    store.apply(status("failed", "9-0"), 1);
    expect(ended()).to.equal(undefined);
    store.apply(status("failed", "11-0"), 2);
    expect(ended()).to.equal("failed");
    store.apply(status("working", "12-0"), 3);
    expect(ended(), "it is tried again").to.equal(undefined);
    store.apply(
      {
        ...control,
        event_type: "SNAPSHOT",
        payload: {
          sequence_id: "20-0",
          agents: [
            {
              agent_id: "a",
              project_id: "p",
              task_id: "t",
              status: "cancelled",
              sequence_id: "15-0",
              timestamp: "",
            },
          ],
        },
      },
      4,
    );
    expect(ended()).to.equal("cancelled");
    store.apply(update(5), 5);
    expect(ended(), "a lower value is a new attempt").to.equal(undefined);
    store.restart();
    store.apply(status("completed", "2-0"), 6);
    expect(ended(), "of a new history").to.equal("completed");
  });

  it("[D28] the end may overtake the last update, and the first", () => {
    const store = stores();
    store.apply(status("completed", "5-0", "b", "u"), 0);
    store.apply(update(30, { task_id: "u", agent_id: "b", estimated_seconds_remaining: 1 }), 1);
    expect(store.get("u")?.ended).to.equal("completed");
    expect(store.at("u", 1)?.estimated_seconds_remaining).to.equal(null);
    store.apply(status("working", "4-0", "b", "u"), 2);
    expect(store.get("u")?.ended, "what was said before the end").to.equal("completed");
    store.apply(update(10), 0);
    store.apply(status("completed", "6-0"), 2000);
    store.apply(update(100), 2010);
    expect(store.get("t")).to.include({ ended: "completed", progress_percent: 100 });
    expect(store.percent(2310)).to.equal(100);
  });

  it("[D28] forgets a task ten seconds after it reached 100 % or ended, and after an hour of silence", () => {
    const store = stores();
    store.apply(update(100), 0);
    store.apply(update(50, { task_id: "failed" }), 0);
    store.apply(status("failed", "1-0", "a", "failed"), 0);
    store.apply(update(50, { task_id: "silent" }), 0);
    const repeated = update(50, { task_id: "repeated" });
    store.apply(repeated, 0);
    const known = () => store.getSnapshot().map(({ task_id }) => task_id);
    store.apply(repeated, 9_999);
    expect(store.percent(9_999)).to.equal(100);
    expect(known()).to.deep.equal(["t", "failed", "silent", "repeated"]);
    expect(store.percent(10_000), "it is gone for who asks, though nothing was heard since").to.equal(
      undefined,
    );
    store.apply(repeated, 10_000);
    expect(known()).to.deep.equal(["silent", "repeated"]);
    expect(store.at("silent", HOUR - 1)?.percent).to.equal(50);
    expect(store.at("silent", HOUR)).to.equal(undefined);
    store.apply(update(60, { task_id: "silent" }), HOUR);
    expect(store.at("silent", HOUR), "it begins anew").to.include({ percent: 60, still: true });
    expect(known()).to.deep.equal(["repeated", "silent"]);
    store.apply(status("cancelled", "2-0", "a", "silent"), HOUR + 1000);
    store.apply(update(61, { task_id: "silent" }), HOUR + 6000);
    expect(store.at("silent", HOUR + 10_999)?.percent).to.equal(61);
    expect(
      store.at("silent", HOUR + 11_000),
      "ten seconds after the end, not after the last update",
    ).to.equal(undefined);
  });

  it("[D28] remembers 10,000 tasks at most: those that are over go first, then the most silent", () => {
    const store = stores();
    store.apply(update(1, { task_id: "first" }), 0);
    store.apply(update(100, { task_id: "over" }), 1);
    for (let n = 2; n < 10_000; n++) store.apply(update(1, { task_id: `t${n}` }), 2);
    store.apply(update(2, { task_id: "first" }), 3);
    store.apply(update(100, { task_id: "over", message: "again" }), 3);
    expect(store.getSnapshot().length).to.equal(10_000);
    store.apply(update(1, { task_id: "more" }), 4);
    store.apply(update(1, { task_id: "and more" }), 5);
    expect(store.getSnapshot().length).to.equal(10_000);
    const present = ["first", "over", "t2", "t3", "more", "and more"].map(
      (id) => store.get(id) !== undefined,
    );
    expect(present).to.deep.equal([true, false, false, true, true, true]);
  });

  it("[D28] tasks that are gone take no place", () => {
    const store = stores();
    store.apply(update(1, { task_id: "first" }), 0);
    for (let n = 1; n < 10_000; n++) store.apply(update(1, { task_id: `t${n}`, project_id: "p2" }), 1);
    store.apply({ ...control, event_type: "ACCESS_REVOKED", payload: { project_ids: ["p2"] } }, 2);
    store.apply(update(1, { task_id: "new" }), 3);
    expect(store.getSnapshot().map(({ task_id }) => task_id)).to.deep.equal(["first", "new"]);
  });

  it("[D28] tasks outside new filters, or of a revoked project, are gone", () => {
    const store = stores();
    for (const [task_id, agent_id, project_id] of [
      ["t1", "a", "p1"],
      ["t2", "b", "p1"],
      ["t3", "a", "p2"],
    ] as const)
      store.apply(update(1, { task_id, agent_id, project_id }), 0);
    const ids = () => store.getSnapshot().map(({ task_id }) => task_id);
    const filters = { agent_ids: ["a"], project_ids: [], event_types: ["PROGRESS"] };
    store.apply({ ...control, event_type: "FILTERS_UPDATED", payload: filters }, 0);
    expect(ids()).to.deep.equal(["t1", "t3"]);
    store.apply({ ...control, event_type: "ACCESS_REVOKED", payload: { project_ids: ["p2"] } }, 0);
    expect(ids()).to.deep.equal(["t1"]);
    store.apply(
      { ...control, event_type: "FILTERS_UPDATED", payload: { ...filters, event_types: ["FAILED"] } },
      0,
    );
    expect(ids()).to.deep.equal([]);
  });

  it("[D28] what was handed out never changes, and is the same until there is news", () => {
    const store = stores();
    let calls = 0;
    const stop = store.subscribe(() => {
      calls += 1;
    });
    const sent = update(10);
    store.apply(sent, 0);
    const before = store.getSnapshot();
    store.apply(sent, 500);
    store.apply(status("working", "1-0"), 600);
    store.at("t", 700);
    expect(store.getSnapshot()).to.equal(before);
    expect(calls).to.equal(1);
    store.apply(status("failed", "2-0"), 800);
    store.apply(update(20), 900);
    expect(store.getSnapshot()).not.to.equal(before);
    expect(before[0]).to.include({ progress_percent: 10 });
    expect(before[0]).not.to.have.property("ended");
    expect(calls).to.equal(3);
    stop();
    store.apply(update(30), 1000);
    expect(calls).to.equal(3);
  });
});
