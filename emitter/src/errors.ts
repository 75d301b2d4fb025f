import { AgentwireError, type Code } from "@agentwire/shared";

/**
 * A publish that Redis did not confirm. It may still have happened, or happen later: a repeat with this `event_id` is
 * safe, one without it may be a second event.
 */
export class PublishError extends AgentwireError {
  constructor(
    code: Extract<Code, "UNAVAILABLE" | "INTERNAL">,
    readonly event_id: string,
    message: string,
    options?: ErrorOptions,
  ) {
    super(code, message, options);
  }
}
