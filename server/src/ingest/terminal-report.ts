import { Id, parseEvent } from "@agentwire/shared";
import { z } from "zod";

const Output = z.object({
  task_id: Id,
  agent_id: Id,
  project_id: Id,
  event_id: Id.optional(),
  stream: z.enum(["stdout", "stderr"]),
  data: z.base64(),
});

/** What a task wrote, from a worker that has no emitter. `data` is base64. */
export interface TerminalReport {
  task_id: string;
  project_id: string;
  payload: { stream: "stdout" | "stderr"; data: string };
}

/** @throws AgentwireError `INVALID_EVENT`, naming each field that is wrong */
export function parseTerminalReport(input: unknown): TerminalReport {
  const { task_id, project_id, stream, data } = parseEvent(Output, input);
  return { task_id, project_id, payload: { stream, data } };
}
