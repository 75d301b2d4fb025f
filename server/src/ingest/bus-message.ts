import { createHash, randomBytes } from "node:crypto";
import { AgentwireError, isSequenceId, parseEvent } from "@agentwire/shared";
import { parseStatusChange } from "@agentwire/shared/redis";
import { z } from "zod";

const BusMessage = z.object({
  event_type: z.literal("AGENT_STATUS_CHANGED"),
  entity_type: z.literal("agent"),
  entity_id: z.string(),
  event_id: z.string().optional(),
  sequence_id: z.string().refine(isSequenceId, "must look like 1700000000000-0").optional(),
  payload: z.record(z.string(), z.unknown()),
});

/** A message on the event bus. Ours carry a `sequence_id`: they tell what was appended, and by which `event_id`. */
export type BusMessage =
  | { name: "ours"; source: string }
  | { name: "foreign"; source: string; change: ReturnType<typeof parseStatusChange> };

/**
 * What one foreign message and the announcement of its append have in common. With an `event_id` of its own that is
 * it; without one it is the digest of the text, which the id made for it begins with.
 */
export const sourceOf = (eventId: string): string =>
  eventId.startsWith("bus-") ? eventId.slice(0, 28) : eventId;

/** What append.lua writes, up to where it can be told from everything else. */
const ANNOUNCEMENT =
  /^\{"event_type":"AGENT_STATUS_CHANGED","entity_type":"agent","entity_id":"[\w.-]+","timestamp":"[\w.:+-]+","event_id":"([\w.-]+)","sequence_id":"\d+-\d+",/;

/**
 * @throws AgentwireError `BAD_REQUEST` for what is no JSON, `INVALID_EVENT` for what is no event
 */
export function parseBusMessage(text: string): BusMessage {
  // Every event comes back here, to every node: that is seen without parsing it.
  const announced = ANNOUNCEMENT.exec(text)?.[1];
  if (announced !== undefined) return { name: "ours", source: sourceOf(announced) };

  let json: unknown;
  try {
    json = JSON.parse(text);
  } catch (error) {
    throw new AgentwireError("BAD_REQUEST", "not JSON", { cause: error });
  }
  const other = json as { event_id?: unknown; sequence_id?: unknown } | null;
  if (typeof other?.event_id === "string" && isSequenceId(other.sequence_id)) {
    return { name: "ours", source: sourceOf(other.event_id) };
  }
  const { entity_id, event_id, sequence_id, payload } = parseEvent(BusMessage, json, "message");
  if (sequence_id !== undefined)
    throw new AgentwireError("INVALID_EVENT", "sequence_id: is given by us, not to us");
  if (payload.agent_id !== undefined && payload.agent_id !== entity_id) {
    throw new AgentwireError("INVALID_EVENT", "entity_id: differs from payload.agent_id");
  }
  const digest = createHash("sha256").update(text).digest("hex").slice(0, 24);
  const id = event_id ?? `bus-${digest}-${randomBytes(9).toString("hex")}`;
  const change = parseStatusChange({ ...payload, agent_id: entity_id, event_id: id });
  return { name: "foreign", source: sourceOf(id), change };
}
