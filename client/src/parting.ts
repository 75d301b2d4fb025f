import type { Refusal } from "@agentwire/shared";
import type { ViewerEnvelope } from "./events.js";

/**
 * What the node said that would explain it if it closed the connection now: a close alone carries no reason, and
 * whether to come back depends on it.
 */
export function partingWord(said: Refusal | undefined, envelope: ViewerEnvelope): Refusal | undefined {
  switch (envelope.event_type) {
    case "READY":
      return undefined;
    case "ERROR":
      return envelope.payload;
    case "TOKEN_EXPIRING":
      return { code: "UNAUTHORIZED", message: "the token has run out", retry: "new_token" };
    default:
      return said;
  }
}
