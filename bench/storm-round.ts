import { setTimeout as pause } from "node:timers/promises";
import { Child } from "./child.js";
import { microseconds } from "./clock.js";
import type { Cluster, Side } from "./clusters/cluster.js";
import { startOurs } from "./clusters/ours.js";
import { startStock } from "./clusters/stock.js";
import { cpuMicroseconds } from "./cpu.js";
import { project } from "./load/event.js";
import type { Publish, Published } from "./load/publisher.js";
import type { ReturnTarget } from "./load/returner.js";
import type { Returned, ReturnersAsk } from "./load/returners.js";
import { residentBytes } from "./memory.js";

export type StormSide = Exclude<Side, "ws">;
/** `kill`: the node of all clients is killed (kill -9). `cut`: all lose their connections, and their nodes live. */
export type Fault = "kill" | "cut";

export interface Storm {
  fault: Fault;
  nodes: number;
  clients: number;
  projects: number;
  /** Connections of one user. */
  "per-user": number;
  /** Events that are published while everybody is away, of all projects. */
  behind: number;
  /** As many in the storm before, which is not measured and goes back to the same nodes. */
  warmup: number;
  /** Events a second, of all projects, before, while and after everybody comes back. */
  rate: number;
  /** Processes that the clients live in. */
  processes: number;
  /** In seconds. */
  patience: number;
  profile: string;
}

export interface StormRound extends Omit<Returned, "lastBack" | "lastComplete"> {
  side: StormSide;
  /** From when everybody may come back: until the last one was connected, and had everything. Of nobody: NaN. */
  backMs: number;
  completeMs: number;
  nodeCpuSeconds: number;
  redisCpuSeconds: number;
  clientCpuSeconds: number;
  /** Of the nodes together, and of the largest one. */
  peakMiB: number;
  failedPublishes: number;
}

const BURST_PER_SECOND = 2000;
/** Events of each project that everybody has before: a stock client that has none has no place to resume from. */
const BEFORE = 3;
const SETTLE_MS = 1000;
const SAMPLE_MS = 50;
const AFTER_MS = 10_000;

/** Publishes in turn to all projects; `flow` goes on until it is stopped. Numbers go on from call to call. */
function openPublisher(side: StormSide, redis: string, projects: number) {
  const child = new Child<Publish, Published>(new URL("load/publisher.ts", import.meta.url));
  let last = 0;
  let failed = 0;
  const publish = async (count: number, rate: number) => {
    // Whole turns, so that each project has as many.
    const first = last + 1;
    last += Math.ceil(count / projects) * projects;
    failed += (await child.ask({ side, redis, kind: "usual", projects, rate, first, last })).failed;
  };
  return {
    publish,
    /** Of each project. */
    last: () => last / projects,
    failed: () => failed,
    flow(rate: number) {
      let on = true;
      const over = (async () => {
        while (on) await publish(Math.max(projects, rate / 2), rate);
      })();
      return async () => {
        on = false;
        await over;
      };
    },
    end: () => child.end(),
  };
}

function targetOf(cluster: Cluster, storm: Storm, i: number): ReturnTarget {
  const { fault, nodes, projects, "per-user": perUser } = storm;
  const user = Math.floor(i / perUser);
  const target = cluster.target(user, project(user, projects));
  const urls = Array.from({ length: nodes }, (_, n) => cluster.target(n, "").url);
  // The load balancer knows which node is dead.
  const alive = fault === "kill" ? urls.slice(1) : urls;
  const turn = (i + 1) % alive.length;
  const back = [...alive.slice(turn), ...alive.slice(0, turn)];
  return { ...target, url: (fault === "kill" ? urls[0] : urls[i % nodes]) as string, back };
}

const profiled = (profile: string, side: StormSide): NodeJS.ProcessEnv =>
  profile
    ? {
        NODE_OPTIONS: `--import=${new URL("profile.mjs", import.meta.url)}`,
        BENCH_PROFILE: `${profile}/${side}`,
      }
    : {};

/** The most memory that these processes hold together until it is stopped. */
function watchMemory(pids: number[]): () => number {
  let most = 0;
  const look = () => {
    most = Math.max(most, residentBytes(pids));
  };
  const timer = setInterval(look, SAMPLE_MS);
  return () => {
    clearInterval(timer);
    look();
    return most;
  };
}

/** One storm on one fresh cluster, and everything stopped again. */
export async function runStorm(side: StormSide, storm: Storm): Promise<StormRound> {
  const { fault, nodes, clients, projects, behind, warmup, rate, processes, patience, profile } = storm;
  const patienceMs = patience * 1000;
  const env = { us: {}, stock: { RECOVERY: "1" } }[side];
  const start = side === "us" ? startOurs : startStock;
  const cluster = await start(nodes, { ...env, ...profiled(profile, side) });
  const publisher = openPublisher(side, cluster.redis.url, projects);
  const groups = Array.from(
    { length: processes },
    () => new Child<ReturnersAsk, unknown>(new URL("load/returners.ts", import.meta.url)),
  );
  const askAll = <A>(question: ReturnersAsk) =>
    Promise.all(groups.map((one) => one.ask(question))) as Promise<A[]>;
  const [killed, pids] =
    fault === "kill" ? [cluster.pids[0] as number, cluster.pids.slice(1)] : [undefined, cluster.pids];
  const mark = () => {
    if (profile) for (const pid of pids) process.kill(pid, "SIGUSR2");
  };
  /** While events flow everybody loses the connection; then so many events are published. */
  const leave = async (killed: number | undefined, missed: number) => {
    await askAll({ ask: "stay" });
    const stop = publisher.flow(rate);
    await pause(SETTLE_MS);
    if (killed) process.kill(killed, "SIGKILL");
    else await askAll({ ask: "cut" });
    await stop();
    if (!(await askAll<boolean>({ ask: "away" })).every(Boolean)) throw new Error("not everybody is away");
    await publisher.publish(missed, BURST_PER_SECOND);
    await pause(SETTLE_MS);
  };

  try {
    const targets = Array.from({ length: clients }, (_, i) => targetOf(cluster, storm, i));
    await Promise.all(
      groups.map((group, g) =>
        group.ask({ ask: "join", targets: targets.filter((_, i) => i % processes === g), projects }),
      ),
    );
    await publisher.publish(BEFORE * projects, rate);
    await pause(SETTLE_MS);

    // As after any deploy: no node that takes clients back does it for the first time.
    await leave(undefined, warmup);
    const warm = await askAll<boolean>({ ask: "return", goal: publisher.last(), home: true, patienceMs });
    if (!warm.every(Boolean)) console.error(`  ${side}: not everybody came back from the storm before`);
    await pause(SETTLE_MS);
    await askAll({ ask: "begin again", last: publisher.last() });
    await leave(killed, behind);

    const clientPids = groups.map(({ pid }) => pid);
    const cpu = () => [pids, [cluster.redis.pid], clientPids].map(cpuMicroseconds);
    const before = cpu();
    mark();
    const peak = watchMemory(pids);
    const goal = publisher.last();
    const stop = publisher.flow(rate);
    const began = microseconds();
    await askAll({ ask: "return", goal, home: false, patienceMs });
    const spent = cpu().map((now, i) => (now - (before[i] as number)) / 1e6);
    const peakBytes = peak();
    mark();
    await stop();
    const results = await askAll<Returned>({ ask: "result", last: publisher.last(), patienceMs: AFTER_MS });

    const sum = (of: (one: Returned) => number) => results.reduce((total, one) => total + of(one), 0);
    const lastOf = (of: (one: Returned) => number) => {
      const at = Math.max(...results.map(of));
      return at === 0 ? Number.NaN : (at - began) / 1000;
    };
    const [nodeCpuSeconds, redisCpuSeconds, clientCpuSeconds] = spent as [number, number, number];
    return {
      side,
      clients: sum((one) => one.clients),
      backMs: lastOf(({ lastBack }) => lastBack),
      completeMs: lastOf(({ lastComplete }) => lastComplete),
      neverBack: sum((one) => one.neverBack),
      startedAnew: sum((one) => one.startedAnew),
      incomplete: sum((one) => one.incomplete),
      lost: sum((one) => one.lost),
      doubled: sum((one) => one.doubled),
      nodeCpuSeconds,
      redisCpuSeconds,
      clientCpuSeconds,
      peakMiB: peakBytes / 1_048_576,
      failedPublishes: publisher.failed(),
    };
  } finally {
    await Promise.all([publisher.end(), ...groups.map((one) => one.end())]);
    await cluster.stop();
  }
}
