import type { Refusal } from "@agentwire/shared";

/** Why an attempt came to nothing, or a connection ended. */
export interface Failure {
  /** A sentence for people. */
  because: string;
  /** What the node itself said, where it said something. */
  refusal?: Refusal;
  /** The node's own wish, from `Retry-After`. */
  retryAfterMs?: number;
}

/** What the stock client hands to `connect_error`: of a namespace (`data`) or of a transport (`context`). */
interface ConnectError extends Error {
  data?: unknown;
  context?: unknown;
}

/**
 * Reads a `connect_error`. Must be called while it is being handled: the stock client resets the HTTP request right
 * after, and its status and body are gone. Only the polling transport shows them; a refused WebSocket says nothing.
 */
export function readFailure(error: ConnectError): Failure {
  if (isRefusal(error.data)) return { because: error.data.message, refusal: error.data };
  if (!isRequest(error.context)) return { because: "the node did not answer" };

  const { status, responseText } = error.context;
  if (status === 0) return { because: "the node did not answer" };
  const refusal = refusalIn(responseText);
  const seconds = Number(error.context.getResponseHeader("Retry-After") ?? Number.NaN);
  return {
    because: refusal?.message ?? `the node answered with HTTP ${status}`,
    ...(refusal && { refusal }),
    ...(Number.isFinite(seconds) && { retryAfterMs: seconds * 1000 }),
  };
}

/** A body that is not ours (of a proxy in between, say) is no refusal of a node. */
function refusalIn(body: string): Refusal | undefined {
  try {
    const { error } = JSON.parse(body) as { error?: unknown };
    return isRefusal(error) ? error : undefined;
  } catch {
    return undefined;
  }
}

function isRefusal(value: unknown): value is Refusal {
  return (
    typeof value === "object" && value !== null && "code" in value && "message" in value && "retry" in value
  );
}

function isRequest(
  value: unknown,
): value is Pick<XMLHttpRequest, "status" | "responseText" | "getResponseHeader"> {
  return typeof value === "object" && value !== null && "status" in value && "getResponseHeader" in value;
}
