import { setTimeout as pause } from "node:timers/promises";
import type { Code, PayloadOf } from "@agentwire/shared";

/** A client that is here. */
interface Leaving {
  say(event_type: "SERVER_DRAINING", payload: PayloadOf<"SERVER_DRAINING">): void;
  /** Ends its connection as a transport close: it comes back. */
  end(because: Code): void;
}

export interface DrainOptions<V extends Leaving> {
  /** Those who are here; who leaves is no longer among them. */
  visits: Iterable<V>;
  /** All of them are gone after this, in ms. */
  timeoutMs: number;
  /** Its client was told to go: its place is free for the connection that it makes elsewhere. */
  onMoving(visit: V): void;
}

/** Clients are sent away at this rate, per second: other nodes take so many in without a queue at their doors. */
const PER_SECOND = 200;
/** Who makes a connection elsewhere first has so long for it; then this one is closed. In ms. */
const GRACE_MS = 2000;
/** The place of a connection is free so long before its client comes for it. */
const LEAD_MS = 250;
const TICK_MS = 50;

/**
 * Sends every client to another node, each at a moment of its own, so that they do not come in one wave. A client that
 * understands `SERVER_DRAINING` goes by itself; the connection of one that does not is closed, and it comes back.
 * Resolves when nobody is left, or the time is over.
 */
export async function drain<V extends Leaving>(options: DrainOptions<V>): Promise<void> {
  const { visits, timeoutMs, onMoving } = options;
  const began = performance.now();
  const grace = Math.min(GRACE_MS, timeoutMs / 2);
  const count = [...visits].length;
  const spread = Math.min(timeoutMs - grace, (count * 1000) / PER_SECOND);
  /** When each is to go, in ms from the beginning. */
  const times = shuffled(Array.from({ length: count }, (_, n) => ((n + Math.random()) * spread) / count));
  const slots = new Map<V, { goes: number; moving: boolean }>();

  for (;;) {
    const now = performance.now() - began;
    let left = 0;
    for (const visit of visits) {
      left++;
      const slot = slots.get(visit) ?? { goes: times[slots.size] ?? now, moving: false };
      if (!slots.has(visit)) {
        slots.set(visit, slot);
        const reconnect_in_ms = Math.ceil(slot.goes - now);
        visit.say("SERVER_DRAINING", { reconnect_in_ms, deadline_ms: Math.ceil(reconnect_in_ms + grace) });
      }
      if (now >= slot.goes - LEAD_MS && !slot.moving) {
        slot.moving = true;
        onMoving(visit);
      }
      if (now >= slot.goes + grace) visit.end("DRAINING");
    }
    if (left === 0 || now >= timeoutMs) return;
    await pause(TICK_MS);
  }
}

function shuffled<T>(list: T[]): T[] {
  for (let i = list.length - 1; i > 0; i--) {
    const j = Math.floor(Math.random() * (i + 1));
    [list[i], list[j]] = [list[j] as T, list[i] as T];
  }
  return list;
}
