import { z } from "zod";
import { codes } from "./codes.js";
import { Id } from "./ids.js";
import { limits } from "./limits.js";
import { agentRoom, projectRoom, taskRoom } from "./rooms.js";
import { isSequenceId } from "./sequence.js";
import { AgentStatusChanged, Status } from "./status.js";

/**
 * What an event is promised, whatever happens on the way (docs/delivery.md):
 * - `log`: ordered, replayable for the window, at least once, repeats removed by `sequence_id`
 * - `state`: the newest per task arrives; older ones may be merged into it
 * - `bytes`: in order with offsets; what is dropped is announced as an exact range
 * - `control`: what the server says about the connection itself; never dropped
 */
export type Delivery = "log" | "state" | "bytes" | "control";

/** Highest first. `control` outranks all of them and travels as CRITICAL. */
export const priorities = ["CRITICAL", "HIGH", "NORMAL", "LOW"] as const;
export type Priority = (typeof priorities)[number];

export interface EventDefinition<P extends z.ZodType = z.ZodType> {
  /** One line for docs/protocol.md. */
  about: string;
  payload: P;
  namespace: "agents" | "terminal" | "both";
  delivery: Delivery;
  priority(payload: z.infer<P>): Priority;
  /** The rooms that hear it; none where it is said to one connection only. */
  rooms(payload: z.infer<P>): string[];
}

const define = <P extends z.ZodType>(event: EventDefinition<P>): EventDefinition<P> => event;

const control = <P extends z.ZodType>(
  namespace: EventDefinition["namespace"],
  about: string,
  payload: P,
): EventDefinition<P> =>
  define({ about, payload, namespace, delivery: "control", priority: () => "CRITICAL", rooms: () => [] });

const SequenceId = z.string().refine(isSequenceId, "must look like 1700000000000-0");
const Count = z.int().min(0);
const Milliseconds = z.int().min(0);
const FiltersInForce = z.object({
  agent_ids: z.array(Id),
  project_ids: z.array(Id),
  event_types: z.array(z.string()),
});

/** Everything a server says to a browser, each once. Types, parsing, rooms and docs/protocol.md come from here. */
export const events = {
  AGENT_STATUS_CHANGED: define({
    about: "An agent went from one status to another.",
    payload: AgentStatusChanged,
    namespace: "agents",
    delivery: "log",
    priority: ({ new_status }) => (new_status === "failed" || new_status === "stuck" ? "CRITICAL" : "HIGH"),
    rooms: ({ project_id, agent_id, task_id }) => [
      projectRoom(project_id),
      agentRoom(agent_id),
      ...(task_id ? [taskRoom(task_id)] : []),
    ],
  }),
  PROGRESS_UPDATE: define({
    about: "How far a task is.",
    payload: z.object({
      task_id: Id,
      agent_id: Id,
      project_id: Id,
      current_step: Count.nullable(),
      total_steps: Count.nullable(),
      progress_percent: z.number().min(0).max(100),
      message: z.string().max(limits.messageLength),
      estimated_seconds_remaining: z.number().min(0).nullable(),
      batched_updates: z.int().min(1),
    }),
    namespace: "agents",
    delivery: "state",
    priority: () => "NORMAL",
    rooms: ({ project_id, agent_id, task_id }) => [
      projectRoom(project_id),
      agentRoom(agent_id),
      taskRoom(task_id),
    ],
  }),
  TERMINAL_OUTPUT: define({
    about: "Bytes that a task wrote to its terminal.",
    payload: z.object({
      task_id: Id,
      stream: z.enum(["stdout", "stderr"]),
      data: z
        .instanceof(Uint8Array)
        .refine((bytes) => bytes.byteLength <= limits.chunkBytes, "at most 4096 bytes"),
      offset: Count,
    }),
    namespace: "terminal",
    delivery: "bytes",
    priority: () => "LOW",
    rooms: ({ task_id }) => [taskRoom(task_id)],
  }),
  READY: control(
    "agents",
    "The connection is accepted; `sequence_id` is the position it continues from.",
    z.object({
      connection_id: z.string(),
      instance_id: z.string(),
      user_id: z.string(),
      epoch: z.string(),
      sequence_id: SequenceId,
      filters: FiltersInForce,
      encoding: z.enum(["json", "messagepack"]),
      recovered: z.boolean(),
    }),
  ),
  SNAPSHOT: control(
    "agents",
    "The last status of every agent that the filters let pass; on a first connection, and after an incomplete replay.",
    z.object({
      agents: z.array(
        z.object({
          agent_id: Id,
          project_id: Id,
          task_id: Id.optional(),
          status: Status,
          sequence_id: SequenceId,
          timestamp: z.string(),
        }),
      ),
      sequence_id: SequenceId,
    }),
  ),
  REPLAY_START: control("agents", "What was missed after `from` follows.", z.object({ from: SequenceId })),
  REPLAY_END: control(
    "agents",
    "The replay is over; `complete` is true only when nothing is missing up to `to`.",
    z.object({
      to: SequenceId,
      count: Count,
      complete: z.boolean(),
      reason: z.enum(["window_exceeded", "history_lost", "trimmed"]).optional(),
    }),
  ),
  MESSAGES_DROPPED: control(
    "agents",
    "Messages left the connection's queue unsent.",
    z.object({
      event_type: z.string(),
      count: Count,
      reason: z.enum(["backpressure", "rate_limit", "expired"]),
      from_sequence_id: SequenceId.optional(),
      to_sequence_id: SequenceId.optional(),
      recoverable: z.boolean(),
    }),
  ),
  FILTERS_UPDATED: control("agents", "The filters now in force.", FiltersInForce),
  STREAM_READY: control("terminal", "The terminal is open.", z.object({ task_id: Id, offset: Count })),
  BYTES_DROPPED: control(
    "terminal",
    "Bytes `from` up to, not including, `to` will not come.",
    z.object({ task_id: Id, from: Count, to: Count, reason: z.string() }),
  ),
  STREAM_PAUSED: control("terminal", "Output is held back for this viewer.", z.object({ task_id: Id })),
  STREAM_RESUMED: control("terminal", "Output flows again.", z.object({ task_id: Id })),
  STREAM_END: control(
    "terminal",
    "The task wrote its last byte.",
    z.object({ task_id: Id, exit_code: z.int().optional(), reason: z.string().optional() }),
  ),
  SERVER_DRAINING: control(
    "both",
    "This node is shutting down; reconnect after `reconnect_in_ms`.",
    z.object({ deadline_ms: Milliseconds, reconnect_in_ms: Milliseconds }),
  ),
  ACCESS_REVOKED: control(
    "both",
    "The right to these projects is gone.",
    z.object({ project_ids: z.array(Id) }),
  ),
  TOKEN_EXPIRING: control("both", "Come back with a new token.", z.object({ expires_in_ms: Milliseconds })),
  ERROR: control(
    "both",
    "Something the client asked for, or relies on, failed.",
    z.object({
      code: z.enum(Object.keys(codes) as [keyof typeof codes, ...(keyof typeof codes)[]]),
      message: z.string(),
      retry: z.enum(["never", "later", "new_token"]),
    }),
  ),
} satisfies Record<string, unknown>;

export type EventType = keyof typeof events;
export type PayloadOf<E extends EventType> = z.infer<(typeof events)[E]["payload"]>;

export function isEventType(name: unknown): name is EventType {
  return typeof name === "string" && Object.hasOwn(events, name);
}
