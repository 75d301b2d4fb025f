import { setTimeout as pause } from "node:timers/promises";
import type { Emitter } from "@agentwire/emitter";
import { compareSequence, type SequenceId, type Status } from "@agentwire/shared";

export interface FloodOptions {
  perSecond: number;
  project_id?: string;
  agents?: number;
  /** The text of the n-th change. */
  message?: (n: number) => string;
}

/** A change as it was published. */
export interface Published {
  sequence_id: SequenceId;
  agent_id: string;
  new_status: Status;
  /** When its publish was called: `performance.now()`. */
  called: number;
}

const AT_ONCE = 200;

/** Publishes one change and notes when. */
export async function publishOne(
  emitter: Emitter,
  change: { agent_id: string; project_id: string; new_status: Status; message?: string },
): Promise<Published> {
  const called = performance.now();
  const { sequence_id } = await emitter.agentStatus(change);
  return { sequence_id, agent_id: change.agent_id, new_status: change.new_status, called };
}

/** Publishes so many at once, of which none is CRITICAL; resolves with what was confirmed, in the log's order. */
export async function burst(emitter: Emitter, count: number, options: Omit<FloodOptions, "perSecond"> = {}) {
  const published: Published[] = [];
  for (let n = 0; n < count; n += AT_ONCE) {
    const some = Array.from({ length: Math.min(AT_ONCE, count - n) }, (_, i) => change(n + i, options));
    published.push(...(await Promise.all(some.map((one) => publishOne(emitter, one)))));
  }
  return published.sort(inOrder);
}

/** Publishes status changes of which none is CRITICAL, at a steady rate, until it is stopped. */
export function startFlood(emitter: Emitter, { perSecond, ...options }: FloodOptions) {
  const published: Published[] = [];
  const running = new Set<Promise<void>>();
  let on = true;
  const loop = (async () => {
    const began = performance.now();
    for (let n = 0; on; n++) {
      const due = began + (n * 1000) / perSecond - performance.now();
      if (due > 0) await pause(due);
      const one = publishOne(emitter, change(n, options)).then((done) => {
        published.push(done);
        running.delete(one);
      });
      running.add(one);
    }
  })();
  return {
    published,
    /** @returns what was confirmed, in the log's order */
    async stop(): Promise<Published[]> {
      on = false;
      await loop;
      await Promise.all(running);
      return published.sort(inOrder);
    },
  };
}

function change(n: number, { project_id = "p1", agents = 10, message }: Omit<FloodOptions, "perSecond">) {
  return {
    agent_id: `${project_id}-agent-${n % agents}`,
    project_id,
    new_status: (n % 2 === 0 ? "working" : "idle") as Status,
    ...(message && { message: message(n) }),
  };
}

const inOrder = (a: Published, b: Published) => compareSequence(a.sequence_id, b.sequence_id);
export const idsOf = (published: { sequence_id: SequenceId }[]): SequenceId[] =>
  published.map(({ sequence_id }) => sequence_id);
