import { z } from "zod";
import type { PayloadOf } from "./events.js";
import { Id } from "./ids.js";
import { limits } from "./limits.js";

/** What a worker says about how far a task is: steps, or percent where the number of steps is unknown. */
export const ProgressReport = z
  .object({
    task_id: Id,
    agent_id: Id,
    project_id: Id,
    /** Which try at the task this is; counts from 1. */
    attempt: z.int().min(1).max(1_000_000).default(1),
    current_step: z.int().min(0).nullish(),
    total_steps: z.int().min(1).nullish(),
    progress_percent: z.number().min(0).max(100).optional(),
    message: z.string().max(limits.messageLength).default(""),
  })
  .refine(
    ({ current_step, total_steps, progress_percent }) =>
      progress_percent !== undefined || (current_step != null && total_steps != null),
    "current_step and total_steps, or progress_percent, are needed",
  )
  .refine(
    ({ current_step, total_steps }) =>
      current_step == null || total_steps == null || current_step <= total_steps,
    "current_step is beyond total_steps",
  );
export type ProgressReport = z.infer<typeof ProgressReport>;

/** The payload of PROGRESS_UPDATE. */
export type Progress = PayloadOf<"PROGRESS_UPDATE">;
