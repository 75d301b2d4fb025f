import { type Envelope, type EventType, events, type PayloadOf } from "@agentwire/shared";
import { expect } from "chai";
import { Frame } from "../../server/src/gate/frame.js";
import { itsTable, table } from "./docs-table.js";

const ID = "0190a1b2-c3d4-7e5f-8a9b-0c1d2e3f4a5b";
const AT = "2026-01-01T00:00:00.000Z";
const SEQUENCE = "1767225600000-0";
const filters = { agent_ids: ["agent-12"], project_ids: [], event_types: [] };
const agent = { agent_id: "agent-12", project_id: "project-7", task_id: "task-345" };

/** One usual payload of each event. */
const usual: { [E in EventType]: PayloadOf<E> } = {
  AGENT_STATUS_CHANGED: { ...agent, old_status: "idle", new_status: "working", message: "Reading the code" },
  PROGRESS_UPDATE: {
    ...agent,
    current_step: 3,
    total_steps: 10,
    progress_percent: 30,
    message: "Writing tests",
    estimated_seconds_remaining: 84.5,
    batched_updates: 1,
  },
  TERMINAL_OUTPUT: {
    task_id: "task-345",
    stream: "stdout",
    data: Buffer.alloc(4096, "x"),
    offset: 1_048_576,
  },
  READY: {
    connection_id: "Xq3cP0rY1nB2mK4aAAAB",
    instance_id: "node-1",
    user_id: ID,
    epoch: ID,
    sequence_id: SEQUENCE,
    filters,
    encoding: "json",
    recovered: false,
  },
  SNAPSHOT: {
    agents: Array.from({ length: 10 }, () => ({
      ...agent,
      status: "working" as const,
      sequence_id: SEQUENCE,
      timestamp: AT,
    })),
    sequence_id: SEQUENCE,
  },
  REPLAY_START: { from: SEQUENCE },
  REPLAY_END: { to: SEQUENCE, count: 120, complete: true },
  MESSAGES_DROPPED: {
    event_type: "AGENT_STATUS_CHANGED",
    count: 120,
    reason: "backpressure",
    from_sequence_id: SEQUENCE,
    to_sequence_id: SEQUENCE,
    recoverable: true,
  },
  FILTERS_UPDATED: filters,
  STREAM_READY: { task_id: "task-345", offset: 1_048_576 },
  BYTES_DROPPED: { task_id: "task-345", from: 1_048_576, to: 1_052_672, reason: "backpressure" },
  STREAM_PAUSED: { task_id: "task-345" },
  STREAM_RESUMED: { task_id: "task-345" },
  STREAM_END: { task_id: "task-345", exit_code: 0 },
  SERVER_DRAINING: { deadline_ms: 30_000, reconnect_in_ms: 4200 },
  ACCESS_REVOKED: { project_ids: ["project-7"] },
  TOKEN_EXPIRING: { expires_in_ms: 60_000 },
  ERROR: { code: "DEGRADED", message: "live delivery is interrupted", retry: "later" },
};

/** Bytes of its WebSocket frames. */
function size(event_type: EventType, encoding: "json" | "messagepack", compress = false): number {
  const payload = events[event_type].payload.parse(usual[event_type]) as PayloadOf<EventType>;
  const { delivery, namespace } = events[event_type];
  const sequence_id = delivery === "log" ? { sequence_id: SEQUENCE } : {};
  const priority = (events[event_type].priority as (p: unknown) => Envelope["priority"])(payload);
  const envelope: Envelope = { event_type, event_id: ID, ...sequence_id, timestamp: AT, priority, payload };
  const frame = new Frame(namespace === "terminal" ? "/ws/terminal/task-345" : "/ws/agents", envelope);
  return frame.webSocketFrame(encoding, delivery === "log", compress).length;
}

describe("docs/protocol.md, sizes", () => {
  const names = Object.keys(usual) as EventType[];
  itsTable(
    "docs/protocol.md",
    "sizes",
    table(
      ["event", "JSON", "MessagePack", "of JSON"],
      names.map((name) => {
        const [json, messagepack] = [size(name, "json"), size(name, "messagepack")];
        return [
          `\`${name}\``,
          String(json),
          String(messagepack),
          `${Math.round((100 * messagepack) / json)} %`,
        ];
      }),
    ),
  );

  it("[contract] an event of each kind is in it", () => {
    expect(names).to.have.members(Object.keys(events));
  });
});
