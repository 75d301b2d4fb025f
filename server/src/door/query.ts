import {
  type Filters,
  filtersSchema,
  isSequenceId,
  type Refusal,
  refusal,
  type SequenceId,
} from "@agentwire/shared";

/** What a client asks for in its handshake query. */
export interface Wishes {
  filters: Filters;
  encoding: "json" | "messagepack";
  lastSequenceId?: SequenceId;
  epoch?: string;
  /** Whether the client takes part in resuming: not with `resume=none`. */
  resumes: boolean;
}

const OURS = [
  "token",
  "agent_ids",
  "project_ids",
  "event_types",
  "encoding",
  "last_sequence_id",
  "epoch",
  "resume",
];
const LISTS = ["agent_ids", "project_ids", "event_types"] as const;
const EPOCH = /^[A-Za-z0-9-]{1,64}$/;

/** Whether Engine.IO will take it: what it would refuse by itself must not get a place first. */
export function isHandshake(query: URLSearchParams, method: string | undefined, upgrade: boolean): boolean {
  const [transport, ...more] = query.getAll("transport");
  return (
    method === "GET" &&
    query.getAll("EIO").join() === "4" &&
    more.length === 0 &&
    transport === (upgrade ? "websocket" : "polling")
  );
}

/** Parses the handshake query; parameters that are not ours (Engine.IO's own, an app's) are left alone. */
export function parseWishes(query: URLSearchParams, maxFilterIds: number): Wishes | Refusal {
  for (const name of OURS) {
    if (query.getAll(name).length > 1) return refusal("BAD_REQUEST", `${name} is given more than once`);
  }

  const lists: Record<string, string[]> = {};
  for (const name of LISTS) {
    const text = query.get(name);
    if (text !== null && text !== "") lists[name] = text.split(",");
  }
  const filters = filtersSchema(maxFilterIds).safeParse(lists);
  if (!filters.success) {
    const problems = filters.error.issues.map((issue) => `${String(issue.path[0])}: ${issue.message}`);
    return refusal("INVALID_FILTER", [...new Set(problems)].join("; "));
  }

  const encoding = query.get("encoding") || "json";
  if (encoding !== "json" && encoding !== "messagepack") {
    return refusal("BAD_REQUEST", "encoding must be json or messagepack");
  }

  const lastSequenceId = query.get("last_sequence_id") || undefined;
  if (lastSequenceId !== undefined && !isSequenceId(lastSequenceId)) {
    return refusal("BAD_REQUEST", "last_sequence_id must look like 1700000000000-0");
  }
  const epoch = query.get("epoch") || undefined;
  if (epoch !== undefined && !EPOCH.test(epoch)) return refusal("BAD_REQUEST", "epoch is not valid");
  const resume = query.get("resume") || undefined;
  if (resume !== undefined && resume !== "none")
    return refusal("BAD_REQUEST", "resume must be none, or absent");

  return {
    filters: filters.data,
    encoding,
    resumes: resume === undefined,
    ...(lastSequenceId && { lastSequenceId }),
    ...(epoch && { epoch }),
  };
}
