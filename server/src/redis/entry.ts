import {
  AGENTS_NAMESPACE,
  type Envelope,
  isEventType,
  isSequenceId,
  type SequenceId,
} from "@agentwire/shared";

/** A durable event as it stands in the log. `envelope` carries its `sequence_id`. */
export interface LogEntry {
  id: SequenceId;
  /** The durable event before this one; `0-0` for the first of a history. */
  prev: SequenceId;
  epoch: string;
  rooms: string[];
  envelope: Envelope<"AGENT_STATUS_CHANGED"> & { sequence_id: SequenceId };
}

/** The fields of a stream entry, as Redis returns them. */
export type RawEntry = Record<string, string>;

export function fieldsOf(flat: string[]): RawEntry {
  const fields: RawEntry = {};
  for (let i = 0; i + 1 < flat.length; i += 2) fields[flat[i] as string] = flat[i + 1] as string;
  return fields;
}

/**
 * Whether append.lua wrote it. The stream also holds what the adapter itself says (rooms joined by an operator) and
 * our readiness markers: those are no events.
 */
export function isDurable(raw: RawEntry): boolean {
  return raw.prev !== undefined && raw.nsp === AGENTS_NAMESPACE;
}

/**
 * @throws Error saying what is wrong, for an entry that append.lua cannot have written
 */
export function decodeEntry(id: SequenceId, raw: RawEntry): LogEntry {
  const { prev, epoch, data } = raw;
  if (!isSequenceId(prev) || !epoch || !data) throw new Error("prev, epoch or data is missing");
  const { packet, opts } = JSON.parse(data);
  const [name, envelope] = packet.data;
  if (!isEventType(name) || name !== "AGENT_STATUS_CHANGED" || envelope.event_type !== name) {
    throw new Error("not a durable event");
  }
  if (!Array.isArray(opts.rooms) || !opts.rooms.every((room: unknown) => typeof room === "string")) {
    throw new Error("opts.rooms is missing");
  }
  const { agent_id, project_id, new_status } = envelope.payload;
  if (typeof agent_id !== "string" || typeof project_id !== "string" || typeof new_status !== "string") {
    throw new Error("payload lacks agent_id, project_id or new_status");
  }
  const { event_type, event_id, ...rest } = envelope;
  return { id, prev, epoch, rooms: opts.rooms, envelope: { event_type, event_id, sequence_id: id, ...rest } };
}
