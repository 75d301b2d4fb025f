import { z } from "zod";
import { Id } from "./ids.js";
import { limits } from "./limits.js";

export const statuses = ["idle", "working", "stuck", "failed", "completed", "cancelled"] as const;
export const Status = z.enum(statuses);
export type Status = z.infer<typeof Status>;

const about = {
  agent_id: Id,
  project_id: Id,
  task_id: Id.optional(),
  new_status: Status,
  /** Percent. */
  progress: z.number().min(0).max(100).optional(),
  message: z.string().max(limits.messageLength).optional(),
  /** Which try at the task this is; counts from 1. */
  attempt: z.int().min(1).max(1_000_000).optional(),
};

/** The payload of `AGENT_STATUS_CHANGED`. `old_status` is null for an agent that was never heard of before. */
export const AgentStatusChanged = z.object({ ...about, old_status: Status.nullable() });
export type AgentStatusChanged = z.infer<typeof AgentStatusChanged>;

/** What a worker says. Without `old_status` it is filled from the agent's last one; without `event_id` one is made. */
export const StatusChange = z.object({
  ...about,
  old_status: Status.nullable().optional(),
  event_id: Id.optional(),
});
export type StatusChange = z.infer<typeof StatusChange>;
