import { randomUUID } from "node:crypto";
import { readFileSync } from "node:fs";
import { stamp } from "../envelope.js";
import { events } from "../events.js";
import { limits } from "../limits.js";
import { AGENTS_NAMESPACE } from "../namespaces.js";
import { parseEvent } from "../parse-event.js";
import type { SequenceId } from "../sequence.js";
import { StatusChange } from "../status.js";
import type { RedisKeys } from "./keys.js";
import { runScript, type ScriptRunner, script } from "./script.js";

const APPEND = script(readFileSync(new URL("../../src/redis/append.lua", import.meta.url), "utf8"));

/** What became of a publish. `duplicate`: this `event_id` was published before, and this is what it got then. */
export interface Appended {
  event_id: string;
  sequence_id: SequenceId;
  duplicate: boolean;
}

/**
 * Checks a status change from outside.
 * @throws AgentwireError `INVALID_EVENT`, naming each field that is wrong
 */
export function parseStatusChange(input: unknown): StatusChange & { event_id: string } {
  const change = parseEvent(StatusChange, input);
  return { ...change, event_id: change.event_id ?? randomUUID() };
}

/**
 * Appends one status change to the log, with all that append.lua does in the same step. Repeating a call with the
 * same `event_id` is safe: the second changes nothing and answers with the first one's `sequence_id`.
 *
 * @param leaseHolder when given, nothing is appended unless this node holds the bus lease
 * @returns `undefined` only when `leaseHolder` did not hold the lease
 * @throws what the Redis client throws
 */
export async function appendStatusChange(
  redis: ScriptRunner,
  keys: RedisKeys,
  change: StatusChange & { event_id: string },
): Promise<Appended>;
export async function appendStatusChange(
  redis: ScriptRunner,
  keys: RedisKeys,
  change: StatusChange & { event_id: string },
  leaseHolder: string,
): Promise<Appended | undefined>;
export async function appendStatusChange(
  redis: ScriptRunner,
  keys: RedisKeys,
  change: StatusChange & { event_id: string },
  leaseHolder = "",
): Promise<Appended | undefined> {
  const { event_id, old_status, ...payload } = change;
  const envelope = stamp("AGENT_STATUS_CHANGED", event_id, { ...payload, old_status: old_status ?? null });
  const { agent_id, project_id, task_id = "", new_status } = payload;
  const { payload: _, ...stampedWith } = envelope;
  const rooms = events.AGENT_STATUS_CHANGED.rooms(envelope.payload);

  const [sequence_id, outcome] = (await runScript(
    redis,
    APPEND,
    [
      keys.events,
      keys.head,
      keys.epoch,
      keys.eventId(event_id),
      keys.agent(agent_id),
      keys.audience(project_id),
      keys.projectAgents(project_id),
      keys.settings,
      keys.busLease,
      ...(task_id === "" ? [] : [keys.task(task_id)]),
    ],
    [
      agent_id,
      project_id,
      task_id,
      old_status === undefined ? "" : JSON.stringify(old_status),
      new_status,
      envelope.timestamp,
      `{"packet":{"type":2,"data":["AGENT_STATUS_CHANGED",${JSON.stringify(stampedWith).slice(0, -1)},"payload":`,
      `}],"nsp":"${AGENTS_NAMESPACE}"},"opts":{"rooms":${JSON.stringify(rooms)},"except":[],"flags":{}}}`,
      '{"old_status":',
      `,${JSON.stringify(payload).slice(1)}`,
      JSON.stringify({
        event_type: envelope.event_type,
        entity_type: "agent",
        entity_id: agent_id,
        timestamp: envelope.timestamp,
        event_id,
      }).slice(0, -1),
      keys.bus(envelope.event_type),
      keys.replayPrefix,
      keys.projectAgentsPrefix,
      AGENTS_NAMESPACE,
      randomUUID(),
      limits.eventIdMemoryMs,
      limits.agentRetentionMs,
      limits.replayWindowMs,
      limits.replayMessages,
      leaseHolder,
    ],
  )) as [string, number];
  return outcome === 2 ? undefined : { event_id, sequence_id, duplicate: outcome === 1 };
}
