import type { Progress, Status } from "@agentwire/shared";
import type { SequenceId } from "@agentwire/shared/sequence";
import type { ViewerEnvelope } from "../../client/src/events.js";
import { createProgressStore } from "../../client/src/progress.js";
import { createStore } from "../../client/src/store.js";

export const MINUTE = 60_000;
export const HOUR = 60 * MINUTE;
export const control = { event_id: "e", timestamp: "2026-01-01T00:00:00.000Z", priority: "HIGH" } as const;
let made = 0;

/** An update of its own id. */
export function update(percent: number, about: Partial<Progress> = {}): ViewerEnvelope {
  made += 1;
  return {
    ...control,
    event_id: `event-${made}`,
    event_type: "PROGRESS_UPDATE",
    payload: {
      task_id: "t",
      agent_id: "a",
      project_id: "p",
      current_step: null,
      total_steps: null,
      progress_percent: percent,
      message: `update ${made}`,
      estimated_seconds_remaining: null,
      batched_updates: 1,
      ...about,
    },
  };
}

export const status = (
  new_status: Status,
  sequence_id: SequenceId,
  agent_id = "a",
  task_id = "t",
): ViewerEnvelope => ({
  ...control,
  event_type: "AGENT_STATUS_CHANGED",
  sequence_id,
  payload: { agent_id, project_id: "p", task_id, old_status: null, new_status },
});

/** A client's two stores, wired as client.ts does it. */
export function stores() {
  const agents = createStore();
  const progress = createProgressStore(agents.get);
  return {
    ...progress,
    apply(envelope: ViewerEnvelope, nowMs: number) {
      agents.apply(envelope);
      progress.apply(envelope, nowMs);
    },
    percent: (nowMs: number) => progress.at("t", nowMs)?.percent,
    seconds: (nowMs: number) => progress.at("t", nowMs)?.estimated_seconds_remaining,
  };
}
