import {
  AgentwireError,
  type Code,
  codes,
  compareSequence,
  type EventType,
  events,
  type Filters,
  filtersSchema,
  Id,
  isEventType,
  isSequenceId,
  laterSequence,
  limits,
  matches,
  type PayloadOf,
  priorities,
  refusal,
  sequenceTime,
  stamp,
  statuses,
} from "@agentwire/shared";
import { expect } from "chai";
import type { z } from "zod";

const status = { agent_id: "a1", project_id: "p1", old_status: null, new_status: "failed" as const };
const progress = {
  task_id: "t1",
  agent_id: "a1",
  project_id: "p1",
  current_step: 1,
  total_steps: 3,
  progress_percent: 33.3,
  message: "",
  estimated_seconds_remaining: null,
  batched_updates: 1,
};
const filters = { agent_ids: [], project_ids: [], event_types: [] };
const at = { sequence_id: "1-0" };

/** One payload of each event. */
const payloads: { [E in EventType]: PayloadOf<E> } = {
  AGENT_STATUS_CHANGED: status,
  PROGRESS_UPDATE: progress,
  TERMINAL_OUTPUT: { task_id: "t1", stream: "stdout", data: new Uint8Array(limits.chunkBytes), offset: 0 },
  READY: {
    connection_id: "c1",
    instance_id: "node-1",
    user_id: "anna",
    epoch: "now",
    ...at,
    filters,
    encoding: "json",
    recovered: false,
  },
  SNAPSHOT: {
    agents: [{ agent_id: "a1", project_id: "p1", status: "idle", ...at, timestamp: "2026-01-01T00:00:00Z" }],
    ...at,
  },
  REPLAY_START: { from: "0-0" },
  REPLAY_END: { to: "1-0", count: 0, complete: false, reason: "trimmed" },
  MESSAGES_DROPPED: { event_type: "PROGRESS_UPDATE", count: 1, reason: "expired", recoverable: false },
  FILTERS_UPDATED: filters,
  STREAM_READY: { task_id: "t1", offset: 0 },
  BYTES_DROPPED: { task_id: "t1", from: 0, to: 1, reason: "backpressure" },
  STREAM_PAUSED: { task_id: "t1" },
  STREAM_RESUMED: { task_id: "t1" },
  STREAM_END: { task_id: "t1", exit_code: 0 },
  SERVER_DRAINING: { deadline_ms: 30_000, reconnect_in_ms: 0 },
  ACCESS_REVOKED: { project_ids: ["p1"] },
  TOKEN_EXPIRING: { expires_in_ms: 60_000 },
  ERROR: refusal("DEGRADED"),
};

describe("the contract", () => {
  describe("filters", () => {
    const change = {
      event_type: "AGENT_STATUS_CHANGED",
      agent_id: "a1",
      project_id: "p1",
      new_status: "failed",
    };
    const step = { event_type: "PROGRESS_UPDATE", agent_id: "a1", project_id: "p1" };
    const cases: [string, Partial<Filters>, change: boolean, step: boolean][] = [
      ["none", {}, true, true],
      ["its agent among others", { agent_ids: ["a2", "a1"] }, true, true],
      ["another agent", { agent_ids: ["a2"] }, false, false],
      ["its project among others", { project_ids: ["p2", "p1"] }, true, true],
      ["another project", { project_ids: ["p2"] }, false, false],
      ["its agent in another project", { agent_ids: ["a1"], project_ids: ["p2"] }, false, false],
      ["status changes", { event_types: ["STATUS_CHANGED"] }, true, false],
      ["status changes by their own name", { event_types: ["AGENT_STATUS_CHANGED"] }, true, false],
      ["progress", { event_types: ["PROGRESS"] }, false, true],
      ["progress by its own name", { event_types: ["PROGRESS_UPDATE"] }, false, true],
      ["its status", { event_types: ["FAILED"] }, true, false],
      ["another status", { event_types: ["COMPLETED"] }, false, false],
      ["either of two", { event_types: ["COMPLETED", "FAILED", "PROGRESS"] }, true, true],
      ["its status and another agent", { agent_ids: ["a2"], event_types: ["FAILED"] }, false, false],
    ];
    for (const [what, given, changePasses, stepPasses] of cases) {
      it(`[D4] ${what}: a status change ${changePasses ? "passes" : "does not"}, progress ${stepPasses ? "passes" : "does not"}`, () => {
        const all = filtersSchema().parse(given);
        expect(matches(all, change)).to.equal(changePasses);
        expect(matches(all, step)).to.equal(stepPasses);
      });
    }

    it("[D4] every status is a filter for changes to it, and to no other", () => {
      for (const wanted of statuses) {
        const only = filtersSchema().parse({ event_types: [wanted.toUpperCase()] });
        const passing = statuses.filter((new_status) => matches(only, { ...change, new_status }));
        expect(passing).to.deep.equal([wanted]);
      }
    });

    it("[D13] repeats count once; too many, other ids and other names are refused", () => {
      expect(filtersSchema().parse({ agent_ids: ["a", "b", "a"] }).agent_ids).to.deep.equal(["a", "b"]);
      const many = Array.from({ length: limits.filterIds + 1 }, (_, n) => `a${n}`);
      expect(filtersSchema().safeParse({ agent_ids: many.slice(1) }).success).to.equal(true);
      for (const bad of [
        { agent_ids: many },
        { agent_ids: [""] },
        { event_types: ["failed"] },
        { task_ids: ["t1"] },
        null,
        [],
      ]) {
        expect(filtersSchema().safeParse(bad).success, JSON.stringify(bad)).to.equal(false);
      }
    });
  });

  describe("ids and places", () => {
    it("[D13] an id is 1 to 128 characters of A-Z a-z 0-9 _ . -", () => {
      for (const good of ["a", "A-b_c.9", "x".repeat(128)])
        expect(Id.safeParse(good).success, good).to.equal(true);
      for (const bad of ["", "x".repeat(129), "a b", "a\n", "\na", "a:b", "a/b", "é", 7, null]) {
        expect(Id.safeParse(bad).success, JSON.stringify(bad)).to.equal(false);
      }
    });

    it("[D5] places are compared as two numbers, never as text", () => {
      const ordered = [
        "0-0",
        "0-1",
        "9-0",
        "9-9",
        "9-10",
        "10-0",
        "10-2",
        "1700000000000-0",
        "1700000000000-11",
      ];
      for (const [n, a] of ordered.entries()) {
        for (const [m, b] of ordered.entries()) {
          expect(Math.sign(compareSequence(a, b)), `${a} and ${b}`).to.equal(Math.sign(n - m));
          expect(laterSequence(a, b)).to.equal(ordered[Math.max(n, m)]);
        }
      }
      expect([...ordered].reverse().sort(compareSequence)).to.deep.equal(ordered);
      expect(sequenceTime("1700000000000-11")).to.equal(1_700_000_000_000);
    });

    it("[D13] what is no place is known", () => {
      for (const good of ["0-0", "1700000000000-0", "1-10"]) expect(isSequenceId(good), good).to.equal(true);
      for (const bad of [
        "",
        "1",
        "-1-0",
        "1-",
        "01-0",
        "1-00",
        "1-0 ",
        "1-0\n",
        "1.5-0",
        "12345678901234567-0",
        1,
      ]) {
        expect(isSequenceId(bad), JSON.stringify(bad)).to.equal(false);
      }
    });
  });

  describe("the map of events", () => {
    for (const [name, payload] of Object.entries(payloads) as [EventType, PayloadOf<EventType>][]) {
      it(`[D13] ${name} has a schema that takes its payload and refuses another, and can be stamped`, () => {
        const { payload: schema, namespace, delivery, about } = events[name];
        expect((schema as z.ZodType).parse(payload)).to.deep.equal(payload);
        for (const bad of [undefined, null, "text", []]) {
          expect((schema as z.ZodType).safeParse(bad).success).to.equal(false);
        }
        expect(["agents", "terminal", "both"]).to.include(namespace);
        expect(["log", "state", "bytes", "control"]).to.include(delivery);
        expect(about).to.match(/\.$/);

        const before = Date.now();
        const envelope = stamp(name, "event-1", payload);
        expect(envelope).to.include({ event_type: name, event_id: "event-1", payload });
        expect(Object.keys(envelope)).to.have.members([
          "event_type",
          "event_id",
          "timestamp",
          "priority",
          "payload",
        ]);
        expect(Date.parse(envelope.timestamp)).to.be.within(before, Date.now());
        expect(new Date(envelope.timestamp).toISOString()).to.equal(envelope.timestamp);
        expect(priorities).to.include(envelope.priority);
        if (delivery === "control") expect(envelope.priority).to.equal("CRITICAL");
      });
    }

    it("[D13] what is no event is known, properties of every object too", () => {
      expect(Object.keys(events)).to.have.members(Object.keys(payloads));
      for (const name of ["NOPE", "constructor", "__proto__", "", undefined])
        expect(isEventType(name)).to.equal(false);
    });

    it("[D3] a change to failed or stuck is CRITICAL, other changes HIGH, progress NORMAL, terminal LOW", () => {
      const urgent = statuses.map(
        (new_status) => stamp("AGENT_STATUS_CHANGED", "e", { ...status, new_status }).priority,
      );
      expect(Object.fromEntries(statuses.map((name, n) => [name, urgent[n]]))).to.deep.equal({
        idle: "HIGH",
        working: "HIGH",
        stuck: "CRITICAL",
        failed: "CRITICAL",
        completed: "HIGH",
        cancelled: "HIGH",
      });
      expect(events.PROGRESS_UPDATE.priority(progress)).to.equal("NORMAL");
      expect(events.TERMINAL_OUTPUT.priority(payloads.TERMINAL_OUTPUT)).to.equal("LOW");
    });

    it("[D3] an event is heard in the rooms of its project, agent and task; what is said to one, in none", () => {
      const { AGENT_STATUS_CHANGED, PROGRESS_UPDATE, TERMINAL_OUTPUT, ...others } = events;
      expect(AGENT_STATUS_CHANGED.rooms(status)).to.deep.equal(["project:p1", "agent:a1"]);
      const ofTask = ["project:p1", "agent:a1", "task:t1"];
      expect(AGENT_STATUS_CHANGED.rooms({ ...status, task_id: "t1" })).to.deep.equal(ofTask);
      expect(PROGRESS_UPDATE.rooms(progress)).to.deep.equal(ofTask);
      expect(TERMINAL_OUTPUT.rooms(payloads.TERMINAL_OUTPUT)).to.deep.equal(["task:t1"]);
      for (const [name, { rooms, delivery }] of Object.entries(others)) {
        expect(delivery, name).to.equal("control");
        expect((rooms as (payload: unknown) => string[])(payloads[name as EventType]), name).to.deep.equal(
          [],
        );
      }
    });
  });

  it("[D13] every code has an HTTP status, says what helps, and has words of its own", () => {
    const words = new Set<string>();
    for (const [code, { status, retry, message }] of Object.entries(codes)) {
      expect(code).to.match(/^[A-Z_]+$/);
      expect(status).to.be.within(400, 599);
      expect(["never", "later", "new_token"], code).to.include(retry);
      expect(message, code).to.match(/^\S.*\S$/);
      words.add(message);
      // What the server itself lacks, or too much, passes; what the request lacks does not.
      expect(retry === "later", code).to.equal(status >= 500 || status === 429);
      expect(refusal(code as Code)).to.deep.equal({ code, message, retry });
      expect(new AgentwireError(code as Code)).to.include({ code, message, retry });
    }
    expect(words.size).to.equal(Object.keys(codes).length);
    expect(refusal("BAD_REQUEST", "what is wrong").message).to.equal("what is wrong");
  });
});
