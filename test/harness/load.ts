import { setTimeout as pause } from "node:timers/promises";
import type { Emitter } from "@agentwire/emitter";
import type { SequenceId, Status } from "@agentwire/shared";

const turns: Status[] = ["working", "stuck", "working", "completed", "idle"];

export interface LoadOptions {
  perSecond: number;
  projects?: string[];
  agents?: number;
  /** Counts refused publishes instead of failing; they are not in the list of what was published. */
  toleratesErrors?: boolean;
}

/** Publishes at a steady rate until it is stopped; returns what was confirmed, in order. */
export function startLoad(
  emitter: Emitter,
  { perSecond, projects = ["p1"], agents = 10, toleratesErrors }: LoadOptions,
) {
  const published: { sequence_id: SequenceId; project_id: string; agent_id: string; new_status: Status }[] =
    [];
  const running = new Set<Promise<void>>();
  let on = true;
  let failed = 0;

  const publish = async (n: number): Promise<void> => {
    const project_id = projects[n % projects.length] as string;
    const agent_id = `${project_id}-agent-${n % agents}`;
    const new_status = turns[n % turns.length] as Status;
    const { sequence_id } = await emitter.agentStatus({ agent_id, project_id, new_status });
    published.push({ sequence_id, project_id, agent_id, new_status });
  };
  const loop = (async () => {
    const began = performance.now();
    for (let n = 0; on; n++) {
      const due = began + (n * 1000) / perSecond - performance.now();
      if (due > 0) await pause(due);
      const one = publish(n)
        .catch((error) => {
          if (!toleratesErrors) throw error;
          failed++;
        })
        .finally(() => running.delete(one));
      running.add(one);
    }
  })();

  return {
    published,
    failed: () => failed,
    async stop() {
      on = false;
      await loop;
      await Promise.all(running);
      return published;
    },
  };
}
