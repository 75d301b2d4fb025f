import { AgentwireError, ProgressReport } from "@agentwire/shared";
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

const told = (error: z.ZodError, whole: string): AgentwireError =>
  new AgentwireError(
    "INVALID_EVENT",
    error.issues.map(({ path, message }) => `${path.join(".") || whole}: ${message}`).join("; "),
  );

/** @throws AgentwireError `INVALID_EVENT`, naming each field that is wrong */
export function parseProgressReport(input: unknown): ProgressReport {
  const parsed = ProgressReport.safeParse(input);
  if (!parsed.success) throw told(parsed.error, "event");
  return parsed.data;
}

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
  const parsed = BusMessage.safeParse(json);
  if (!parsed.success) throw told(parsed.error, "message");
  const { entity_id, payload } = parsed.data;
  if (payload.task_id !== undefined && payload.task_id !== entity_id)
    throw new AgentwireError("INVALID_EVENT", "entity_id: differs from payload.task_id");
  return parseProgressReport({ ...payload, task_id: entity_id });
}
