import { setTimeout as pause } from "node:timers/promises";
import type { Emitter } from "@agentwire/emitter";
import type { SequenceId } from "@agentwire/shared";
import { onTeardown } from "./teardown.js";

/** Publishes at a steady rate, and notes when each was confirmed and how long each refusal took. */
export function startPublishing(emitter: Emitter, perSecond: number) {
  const confirmed: { id: SequenceId; at: number }[] = [];
  const refusals: { code: string; took: number }[] = [];
  const running = new Set<Promise<void>>();
  let on = true;

  const publish = async (n: number): Promise<void> => {
    const called = performance.now();
    try {
      const agent_id = `agent-${n % 50}`;
      const new_status = n % 2 === 0 ? "working" : "idle";
      const { sequence_id } = await emitter.agentStatus({ agent_id, project_id: "p1", new_status });
      confirmed.push({ id: sequence_id, at: performance.now() });
    } catch (error) {
      refusals.push({ code: (error as { code: string }).code, took: performance.now() - called });
    }
  };
  const loop = (async () => {
    const began = performance.now();
    for (let n = 0; on; n++) {
      const due = began + (n * 1000) / perSecond - performance.now();
      if (due > 0) await pause(due);
      const one = publish(n).finally(() => running.delete(one));
      running.add(one);
    }
  })();

  const stop = async (): Promise<SequenceId[]> => {
    on = false;
    await loop;
    await Promise.all(running);
    return confirmed.map(({ id }) => id);
  };
  onTeardown(async () => void (await stop()));

  return {
    confirmed,
    refusals,
    stop,
    /** The longest time (ms) without a confirmation. */
    outage(): number {
      const times = confirmed.map(({ at }) => at);
      return Math.max(...times.slice(1).map((at, n) => at - (times[n] as number)));
    },
  };
}
