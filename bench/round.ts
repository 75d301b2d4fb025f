import { setTimeout as pause } from "node:timers/promises";
import { Child } from "./child.js";
import { microseconds } from "./clock.js";
import { startBare } from "./clusters/bare.js";
import type { Side, StartCluster } from "./clusters/cluster.js";
import { startOurs } from "./clusters/ours.js";
import { startStock } from "./clusters/stock.js";
import { cpuMicroseconds } from "./cpu.js";
import type { Ask, Client, Seen } from "./load/audience.js";
import { type Kind, project } from "./load/event.js";
import type { Publish, Published } from "./load/publisher.js";
import { residentBytes } from "./memory.js";

/** A side does not do what its bench is about. */
export class NotNegotiated extends Error {}

const PATIENCE_MS = 15_000;
/** What connecting leaves behind (records in Redis, timers) should not fall into the measured time. */
const SETTLE_MS = 1000;

/** What every side of a bench is given. */
export interface Load {
  nodes: number;
  /** Settings of the nodes. */
  env: Partial<Record<Side, NodeJS.ProcessEnv>>;
  kind: Kind;
  client: Client;
  viewers: number;
  /** Viewers and events go to so many projects in turn. */
  projects: number;
  /** Events a second, of all projects. */
  rate: number;
  seconds: number;
  /** Seconds of the same load before. */
  warmup: number;
  /** Seconds without load in between, to tell what the connections alone cost; 0 where nobody asks. */
  rest: number;
  /** A folder for a CPU profile of each node, or nothing; the figures are worth less then. */
  profile: string;
}

export interface Round extends Seen {
  side: Side;
  failedPublishes: number;
  /** The most that the publisher was behind its plan. */
  lateMs: number;
  deliveriesPerSecond: number;
  /** In µs. */
  nodeCpuPerDelivery: number;
  /** The part of it that the connections alone cost. */
  restPerDelivery: number;
  redisCpuPerEvent: number;
  /** Of one processor, while it was measured. */
  nodeShare: number;
  audienceShare: number;
  /** What the nodes' memory grew by, in bytes. */
  memoryPerConnection: number;
}

const clusters: Record<Side, StartCluster> = { us: startOurs, stock: startStock, ws: startBare };

/** The events of a time, as many for each project. */
export const eventsIn = ({ rate, projects }: Pick<Load, "rate" | "projects">, seconds: number): number =>
  Math.ceil((rate * seconds) / projects) * projects;

const profiling = ({ profile }: Load, side: Side): NodeJS.ProcessEnv =>
  profile
    ? {
        NODE_OPTIONS: `--import=${new URL("profile.mjs", import.meta.url)}`,
        BENCH_PROFILE: `${profile}/${side}`,
      }
    : {};

/**
 * One load on one fresh cluster, and everything stopped again.
 * @throws Error where the load could not be put on it
 */
export async function runRound(side: Side, load: Load): Promise<Round> {
  const { rate, viewers, projects, kind, client } = load;
  const [before, expected] = [eventsIn(load, load.warmup), eventsIn(load, load.seconds)];
  const cluster = await clusters[side](load.nodes, { ...load.env[side], ...profiling(load, side) });
  const publisher = new Child<Publish, Published>(new URL("load/publisher.ts", import.meta.url));
  const audience = new Child<Ask, Seen | number | boolean>(new URL("load/audience.ts", import.meta.url));
  const { redis, pids } = cluster;
  const markProfile = () => {
    if (load.profile) for (const pid of pids) process.kill(pid, "SIGUSR2");
  };

  try {
    const emptyBytes = residentBytes(pids);
    const targets = Array.from({ length: viewers }, (_, i) => cluster.target(i, project(i, projects)));
    const join = { ask: "join", targets, client, expected: expected / projects, projects } as const;
    const deflating = await audience.ask<number>(join);
    if (client === "deflating" && deflating < viewers)
      throw new NotNegotiated(
        `${side}: ${deflating} of ${viewers} connections negotiated permessage-deflate`,
      );

    const publish = { side, redis: redis.url, rate, kind, projects };
    await publisher.ask({ ...publish, first: 1 - before, last: 0 });
    if (!(await audience.ask({ ask: "warm" })))
      throw new Error(`${side}: not every viewer heard the warm-up`);
    await pause(SETTLE_MS);
    const cpuOf = (...of: number[]) => cpuMicroseconds(of);
    const beforeRest = cpuOf(...pids);
    await pause(load.rest * 1000);
    const restPerSecond = load.rest && (cpuOf(...pids) - beforeRest) / load.rest;

    markProfile();
    const [nodeCpu, redisCpu, audienceCpu] = [cpuOf(...pids), cpuOf(redis.pid), cpuOf(audience.pid)];
    const start = microseconds();
    const { failed, lateMs } = await publisher.ask({ ...publish, first: 1, last: expected });
    await audience.ask({ ask: "complete", patienceMs: PATIENCE_MS });
    const nodeSpent = cpuOf(...pids) - nodeCpu;
    const redisSpent = cpuOf(redis.pid) - redisCpu;
    const audienceSpent = cpuOf(audience.pid) - audienceCpu;
    const memory = residentBytes(pids) - emptyBytes;
    markProfile();

    const seen = await audience.ask<Seen>({ ask: "result" });
    const lasted = seen.lastArrival - start;
    const deliveriesPerSecond = (seen.received * 1e6) / lasted;
    return {
      side,
      ...seen,
      failedPublishes: failed,
      lateMs,
      deliveriesPerSecond,
      nodeCpuPerDelivery: nodeSpent / seen.received,
      restPerDelivery: restPerSecond / deliveriesPerSecond,
      redisCpuPerEvent: redisSpent / expected,
      nodeShare: nodeSpent / lasted,
      audienceShare: audienceSpent / lasted,
      memoryPerConnection: memory / viewers,
    };
  } finally {
    await Promise.all([publisher.end(), audience.end()]);
    await cluster.stop();
  }
}
