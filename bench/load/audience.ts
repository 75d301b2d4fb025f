import { setTimeout as pause } from "node:timers/promises";
import { answerQuestions } from "../child.js";
import { percentile } from "../stats.js";
import { type Target, Viewer } from "./viewer.js";

/** In this order: `join` answers when every viewer has joined, `warm` when each heard the last event of the warm-up. */
export type Ask =
  | { ask: "join"; targets: Target[]; expected: number }
  | { ask: "warm" }
  | { ask: "result"; patienceMs: number };

/** What all viewers saw. Times in ms. */
export interface Seen {
  p50: number;
  p95: number;
  p99: number;
  max: number;
  received: number;
  missing: number;
  repeated: number;
  disordered: number;
  disconnects: number;
  bytes: number;
  /** {@link microseconds} of the last delivery. */
  lastArrival: number;
}

const WARM_MS = 20_000;
let viewers: Viewer[] = [];

async function until(condition: () => boolean, ms: number): Promise<boolean> {
  for (const end = Date.now() + ms; !condition(); await pause(20)) if (Date.now() > end) return false;
  return true;
}

function result(): Seen {
  const latencies = new Float64Array(viewers.reduce((sum, { latencies }) => sum + latencies.length, 0));
  let filled = 0;
  for (const viewer of viewers) {
    const own = viewer.latencies.subarray(0, viewer.received);
    latencies.set(own, filled);
    filled += own.length;
  }
  const sorted = latencies.subarray(0, filled).sort();
  const sum = (of: (viewer: Viewer) => number) => viewers.reduce((total, viewer) => total + of(viewer), 0);
  return {
    p50: percentile(sorted, 0.5),
    p95: percentile(sorted, 0.95),
    p99: percentile(sorted, 0.99),
    max: percentile(sorted, 1),
    received: sum(({ received }) => received),
    missing: sum(({ missing }) => missing),
    repeated: sum(({ repeated }) => repeated),
    disordered: sum(({ disordered }) => disordered),
    disconnects: sum(({ disconnects }) => disconnects),
    bytes: Math.max(...viewers.map(({ bytes }) => bytes)),
    lastArrival: Math.max(...viewers.map(({ lastArrival }) => lastArrival)),
  };
}

answerQuestions<Ask>(async (question) => {
  switch (question.ask) {
    case "join":
      viewers = question.targets.map((target) => new Viewer(target, question.expected));
      await Promise.all(viewers.map(({ joined }) => joined));
      return true;
    case "warm":
      return until(() => viewers.every(({ warm }) => warm), WARM_MS);
    case "result":
      await until(() => viewers.every(({ missing }) => missing === 0), question.patienceMs);
      // A repeat may come after the last event.
      await pause(200);
      return result();
  }
});
