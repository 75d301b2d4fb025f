import { type Envelope, type StatusChange, stamp } from "@agentwire/shared";
import { microseconds } from "../clock.js";

export const PROJECT = "bench";
export const EVENT = "AGENT_STATUS_CHANGED";
const AGENTS = 20;
const FILLING = "step 12 of 40: writing the tests, 3 files changed, 120 lines";

/** Number `n` of the run, saying in its message which it is and when it was published. */
export function change(n: number): StatusChange & { event_id: string } {
  return {
    event_id: crypto.randomUUID(),
    agent_id: `agent-${Math.abs(n) % AGENTS}`,
    project_id: PROJECT,
    task_id: `task-${Math.abs(n) % AGENTS}`,
    old_status: "working",
    new_status: "working",
    message: `${n} ${microseconds().toFixed(1)} ${FILLING}`,
  };
}

/** The same event as stock Socket.IO is given it: our envelope, without the `sequence_id` that only the log can give. */
export function envelope({ event_id, ...payload }: ReturnType<typeof change>): Envelope {
  return stamp(EVENT, event_id, { ...payload, old_status: payload.old_status ?? null });
}

/** What a viewer reads from it. */
export function readMessage(message: string): { n: number; published: number } {
  const [n, published] = message.split(" ", 2);
  return { n: Number(n), published: Number(published) };
}
