import { Child } from "./child.js";
import { microseconds } from "./clock.js";
import type { Side } from "./clusters/cluster.js";
import { startOurs } from "./clusters/ours.js";
import { startStock } from "./clusters/stock.js";
import { cpuMicroseconds } from "./cpu.js";
import type { Ask, Seen } from "./load/audience.js";
import type { Publish, Published } from "./load/publisher.js";
import type { Options } from "./options.js";

const PATIENCE_MS = 15_000;

export interface Round extends Seen {
  side: Side;
  failedPublishes: number;
  /** The most that the publisher was behind its plan. */
  lateMs: number;
  deliveriesPerSecond: number;
  nodeCpuPerDelivery: number;
  redisCpuPerEvent: number;
}

const profiling = ({ profile }: Options): NodeJS.ProcessEnv =>
  profile
    ? { NODE_OPTIONS: `--import=${new URL("profile.mjs", import.meta.url)}`, BENCH_PROFILE: profile }
    : {};

/** One load on one fresh cluster, and everything stopped again. */
export async function runRound(side: Side, options: Options): Promise<Round> {
  const { rate, seconds, warmup } = options;
  const expected = rate * seconds;
  const cluster = await (side === "us" ? startOurs : startStock)(options.nodes, profiling(options));
  const publisher = new Child<Publish, Published>(new URL("load/publisher.ts", import.meta.url));
  const audience = new Child<Ask, Seen | boolean>(new URL("load/audience.ts", import.meta.url));

  try {
    const targets = Array.from({ length: options.viewers }, (_, i) => cluster.target(i));
    await audience.ask({ ask: "join", targets, expected });

    const load = { side, redis: cluster.redis.url, rate };
    await publisher.ask({ ...load, first: 1 - rate * warmup, last: 0 });
    if (!(await audience.ask({ ask: "warm" })))
      throw new Error(`${side}: not every viewer heard the warm-up`);

    const nodeCpu = cpuMicroseconds(cluster.pids);
    const redisCpu = cpuMicroseconds([cluster.redis.pid]);
    const start = microseconds();
    const { failed, lateMs } = await publisher.ask({ ...load, first: 1, last: expected });
    const seen = await audience.ask<Seen>({ ask: "result", patienceMs: PATIENCE_MS });
    return {
      side,
      ...seen,
      failedPublishes: failed,
      lateMs,
      deliveriesPerSecond: (seen.received * 1e6) / (seen.lastArrival - start),
      nodeCpuPerDelivery: (cpuMicroseconds(cluster.pids) - nodeCpu) / seen.received,
      redisCpuPerEvent: (cpuMicroseconds([cluster.redis.pid]) - redisCpu) / expected,
    };
  } finally {
    await Promise.all([publisher.end(), audience.end()]);
    await cluster.stop();
  }
}

/** What no round may have. */
export function faults({ missing, repeated, disordered, disconnects, failedPublishes }: Round): string[] {
  const counts = {
    missing,
    repeated,
    "out of order": disordered,
    disconnects,
    "failed publishes": failedPublishes,
  };
  return Object.entries(counts)
    .filter(([, count]) => count > 0)
    .map(([name, count]) => `${count} ${name}`);
}
