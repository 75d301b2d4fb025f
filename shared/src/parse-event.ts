import type { z } from "zod";
import { AgentwireError } from "./codes.js";

/**
 * Checks an event from outside. `whole` names it where no field of it is to blame.
 * @throws AgentwireError `INVALID_EVENT`, naming each field that is wrong
 */
export function parseEvent<T>(schema: z.ZodType<T>, input: unknown, whole = "event"): T {
  const parsed = schema.safeParse(input);
  if (parsed.success) return parsed.data;
  const fields = parsed.error.issues.map(({ path, message }) => `${path.join(".") || whole}: ${message}`);
  throw new AgentwireError("INVALID_EVENT", fields.join("; "));
}
