import type { Status } from "@agentwire/shared";
import type { SequenceId } from "@agentwire/shared/sequence";
import { expect } from "chai";
import type { ViewerEnvelope } from "../../client/src/events.js";
import { createStore } from "../../client/src/store.js";

const stamp = { event_id: "e", timestamp: "2026-01-01T00:00:00.000Z", priority: "HIGH" } as const;

const change = (
  agent_id: string,
  sequence_id: SequenceId,
  new_status: Status,
  project_id = "p",
): ViewerEnvelope => ({
  ...stamp,
  event_type: "AGENT_STATUS_CHANGED",
  sequence_id,
  payload: { agent_id, project_id, old_status: "idle", new_status, message: `since ${sequence_id}` },
});
const snapshot = (sequence_id: SequenceId, agents: [string, SequenceId, Status][]): ViewerEnvelope => ({
  ...stamp,
  event_type: "SNAPSHOT",
  payload: {
    sequence_id,
    agents: agents.map(([agent_id, sequence_id, status]) => ({
      agent_id,
      project_id: "p",
      status,
      sequence_id,
      timestamp: stamp.timestamp,
    })),
  },
});

describe("client store", () => {
  it("[D6] state is taken from the highest sequence_id, whatever arrives last", () => {
    const store = createStore();
    store.apply(change("a", "10-0", "failed"));
    store.apply(change("a", "9-0", "working"));
    expect(store.get("a")).to.include({ status: "failed", sequence_id: "10-0" });
    store.apply(change("a", "10-1", "working"));
    expect(store.get("a")?.status).to.equal("working");
  });

  it("[D6] every order of arrival ends in the same state", () => {
    const arrivals = [
      change("a", "9-0", "working"),
      change("a", "10-0", "stuck"),
      change("a", "10-2", "completed"),
      snapshot("10-0", [["a", "10-0", "stuck"]]),
    ];
    for (const order of permutations(arrivals)) {
      const store = createStore();
      for (const envelope of order) store.apply(envelope);
      expect(store.getSnapshot().map(({ status }) => status)).to.deep.equal(["completed"]);
    }
  });

  it("[D6] a snapshot older than an event does not undo it", () => {
    const store = createStore();
    store.apply(change("a", "20-0", "failed"));
    store.apply(change("new", "21-0", "working"));
    store.apply(snapshot("19-0", [["a", "15-0", "working"]]));
    expect(store.get("a")?.status).to.equal("failed");
    expect(store.get("new")?.status).to.equal("working");
  });

  it("[D6] a snapshot takes away the agents that it does not have", () => {
    const store = createStore();
    store.apply(change("gone", "5-0", "working"));
    store.apply(snapshot("10-0", [["a", "9-0", "idle"]]));
    expect(store.getSnapshot().map(({ agent_id }) => agent_id)).to.deep.equal(["a"]);
  });

  it("[D6] a snapshot of the same change keeps what only the event had", () => {
    const store = createStore();
    store.apply(change("a", "5-0", "working"));
    store.apply(snapshot("10-0", [["a", "5-0", "working"]]));
    expect(store.get("a")?.message).to.equal("since 5-0");
  });

  it("[D6] after a restart of history lower ids are newer", () => {
    const store = createStore();
    store.apply(change("a", "1000-0", "working"));
    store.restart();
    expect(store.get("a")?.status).to.equal("working");
    store.apply(snapshot("3-0", [["a", "2-0", "failed"]]));
    expect(store.get("a")).to.include({ status: "failed", sequence_id: "2-0" });
  });

  it("[D6] agents outside new filters, or of a revoked project, are gone", () => {
    const store = createStore();
    for (const [id, project] of [
      ["a", "p1"],
      ["b", "p1"],
      ["c", "p2"],
    ] as const)
      store.apply(change(id, "1-0", "working", project));
    const ids = () => store.getSnapshot().map(({ agent_id }) => agent_id);
    store.apply({
      ...stamp,
      event_type: "FILTERS_UPDATED",
      payload: { agent_ids: ["a", "c"], project_ids: [], event_types: [] },
    });
    expect(ids()).to.deep.equal(["a", "c"]);
    store.apply({ ...stamp, event_type: "ACCESS_REVOKED", payload: { project_ids: ["p2"] } });
    expect(ids()).to.deep.equal(["a"]);
  });

  it("[D6] what was handed out never changes, and is the same until something does", () => {
    const store = createStore();
    let calls = 0;
    const stop = store.subscribe(() => {
      calls += 1;
    });
    store.apply(change("a", "10-0", "working"));
    const before = store.getSnapshot();
    expect(store.getSnapshot()).to.equal(before);
    store.apply(change("a", "9-0", "idle"));
    expect(store.getSnapshot()).to.equal(before);
    expect(calls).to.equal(1);
    store.apply(change("a", "11-0", "failed"));
    expect(store.getSnapshot()).not.to.equal(before);
    expect(before[0]?.status).to.equal("working");
    stop();
    store.apply(change("a", "12-0", "idle"));
    expect(calls).to.equal(2);
  });
});

function permutations<T>(items: T[]): T[][] {
  if (items.length < 2) return [items];
  return items.flatMap((item, i) => permutations(items.toSpliced(i, 1)).map((rest) => [item, ...rest]));
}
