import { AgentwireError, ProgressReport, parseEvent } from "@agentwire/shared";
import { z } from "zod";

const BusMessage = z.object({
  event_type: z.literal("PROGRESS_UPDATE"),
  entity_type: z.literal("task"),
  entity_id: z.string(),
  payload: z.record(z.string(), z.unknown()),
});

/** What an emitter of ours says, up to where it can be told from everything else. */
const OURS =
  /^\{"event_type":"PROGRESS_UPDATE","entity_type":"task","entity_id":"[\w.-]+","timestamp":"[\w.:+-]+","event_id":"[\w.-]+","origin":"agentwire",/;

/** @throws AgentwireError `INVALID_EVENT`, naming each field that is wrong */
export const parseProgressReport = (input: unknown): ProgressReport => parseEvent(ProgressReport, input);

/**
 * @returns nothing for what an emitter of ours said: nodes have it on the project's channel
 * @throws AgentwireError `BAD_REQUEST` for what is no JSON, `INVALID_EVENT` for what is no report
 */
export function parseProgressMessage(text: string): ProgressReport | undefined {
  if (OURS.test(text)) return undefined;
  let json: unknown;
  try {
    json = JSON.parse(text);
  } catch (error) {
    throw new AgentwireError("BAD_REQUEST", "not JSON", { cause: error });
  }
  const { entity_id, payload } = parseEvent(BusMessage, json, "message");
  if (payload.task_id !== undefined && payload.task_id !== entity_id)
    throw new AgentwireError("INVALID_EVENT", "entity_id: differs from payload.task_id");
  return parseProgressReport({ ...payload, task_id: entity_id });
}
