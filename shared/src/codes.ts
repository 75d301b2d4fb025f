/**
 * Every code a client, worker or operator can meet: in HTTP bodies, CONNECT_ERROR data, acknowledgements and ERROR events.
 *
 * `status` is the HTTP status where the code can answer a request. `retry` tells the other side what helps:
 * - `never`: the same request will be refused again
 * - `later`: wait (HTTP answers carry `Retry-After`), then send the same again
 * - `new_token`: come back with another token
 */
export const codes = {
  DRAINING: { status: 503, retry: "later", message: "this node is shutting down" },
  UNAVAILABLE: { status: 503, retry: "later", message: "what this depends on does not answer" },
  CLUSTER_FULL: { status: 503, retry: "later", message: "the cluster has no room for another connection" },
  ORIGIN_FORBIDDEN: { status: 403, retry: "never", message: "this origin is not allowed" },
  IP_RATE_LIMITED: { status: 429, retry: "later", message: "too many connections from this address" },
  UNAUTHORIZED: { status: 401, retry: "new_token", message: "a valid token is required" },
  INVALID_FILTER: { status: 400, retry: "never", message: "a filter is not valid" },
  BAD_REQUEST: { status: 400, retry: "never", message: "the request is not valid" },
  FORBIDDEN: { status: 403, retry: "never", message: "no right to this" },
  USER_CONNECTION_LIMIT: { status: 429, retry: "later", message: "too many connections of this user" },
  NAMESPACE_UNKNOWN: { status: 404, retry: "never", message: "no such namespace" },
  NOT_FOUND: { status: 404, retry: "never", message: "no such resource" },
  TASK_NOT_FOUND: { status: 404, retry: "never", message: "no such task" },
  INVALID_EVENT: { status: 400, retry: "never", message: "the event is not valid" },
  UNKNOWN_EVENT: { status: 400, retry: "never", message: "no such event" },
  RATE_LIMITED: { status: 429, retry: "later", message: "too many requests" },
  PAYLOAD_TOO_LARGE: { status: 413, retry: "never", message: "the message is too large" },
  DEGRADED: {
    status: 503,
    retry: "later",
    message: "live delivery is interrupted; what is missed will be sent again",
  },
  INTERNAL: { status: 500, retry: "later", message: "the node failed on this request" },
} as const satisfies Record<string, { status: number; retry: Retry; message: string }>;

export type Retry = "never" | "later" | "new_token";
export type Code = keyof typeof codes;

/** The body of a refusal: the same shape in HTTP answers, CONNECT_ERROR data and ERROR payloads. */
export interface Refusal {
  code: Code;
  message: string;
  retry: Retry;
}

/** A refusal with its code's own message, or with `message` where the place can say more. */
export function refusal(code: Code, message: string = codes[code].message): Refusal {
  return { code, message, retry: codes[code].retry };
}

/** An error that carries a code, thrown by our own functions and never swallowed on the way to the caller. */
export class AgentwireError extends Error {
  override readonly name = "AgentwireError";
  constructor(
    readonly code: Code,
    message: string = codes[code].message,
    options?: ErrorOptions,
  ) {
    super(message, options);
  }
  get retry(): Retry {
    return codes[this.code].retry;
  }
}
