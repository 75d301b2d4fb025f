import type { SequenceId, Subscription } from "@agentwire/shared";

/** Where a new connection goes on: the history, where its name is known, and the place up to which everything arrived. */
export interface ResumePoint {
  epoch?: string;
  last_sequence_id: SequenceId;
}

/** A token, or what makes a fresh one; a function is called before each attempt. */
export type TokenSource = string | (() => string | Promise<string>);

/** The query of one attempt. A filter that lets everything pass is left out. */
export function handshakeQuery(
  token: string,
  filters: Subscription,
  resume: ResumePoint | undefined,
): Record<string, string> {
  const query: Record<string, string> = { token, ...resume };
  for (const name of ["agent_ids", "project_ids", "event_types"] as const) {
    const values = filters[name] ?? [];
    if (values.length > 0) query[name] = values.join(",");
  }
  return query;
}
