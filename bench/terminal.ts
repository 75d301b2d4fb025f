import { terminalNamespace } from "@agentwire/shared";
import { token } from "../test/harness/token.js";
import { Child } from "./child.js";
import { forked } from "./clusters/forked.js";
import { startOurs } from "./clusters/ours.js";
import { cpuMicroseconds } from "./cpu.js";
import type { TerminalAsk, TerminalSeen, TerminalTarget } from "./load/terminal-audience.js";
import type { TerminalWork, TerminalWritten } from "./load/terminal-worker.js";
import { residentBytes } from "./memory.js";
import { chosen, orUsage, readOptions } from "./options.js";
import { median } from "./stats.js";

type Side = "us" | "stock";

const numbers = {
  seconds: [10, 300],
  rounds: [3, 20],
  nodes: [3, 16],
  rate: [1_000_000, 20_000_000],
} as const;
const texts = { viewers: "1,10,50", sides: "us,stock", profile: "" };
const options = orUsage(() => readOptions(numbers, texts, process.argv.slice(2), process.env));
const sides = orUsage(() => chosen("sides", options.sides, ["us", "stock"]));
const { seconds, rounds, nodes, rate, profile } = options;

const startStock = forked(new URL("stock/terminal.mjs", import.meta.url), (url) => ({
  url,
  options: {},
  joinedAt: "connect",
}));
/** The stream is at this rate on purpose, and somewhat above the default. */
const OURS = { WS_TERMINAL_BYTES_PER_SECOND: String(2 * rate), WS_MAX_CONNECTIONS_PER_USER: "0" };

const profiled = (side: Side): NodeJS.ProcessEnv =>
  profile
    ? {
        NODE_OPTIONS: `--import=${new URL("profile.mjs", import.meta.url)}`,
        BENCH_PROFILE: `${profile}/${side}`,
      }
    : {};
const signal = (pids: number[]) => {
  if (profile) for (const pid of pids) process.kill(pid, "SIGUSR2");
};

interface Figures {
  nodeCpuPerMegabyte: number;
  redisCpuPerMegabyte: number;
  grownMiB: number;
  p50: number;
  p95: number;
  whole: boolean;
  lateMs: number;
}

async function runRound(side: Side, viewers: number): Promise<Figures> {
  const cluster = await (side === "us"
    ? startOurs(nodes, { ...OURS, ...profiled(side) })
    : startStock(nodes, profiled(side)));
  const audience = new Child<TerminalAsk, unknown>(new URL("load/terminal-audience.ts", import.meta.url));
  const worker = new Child<TerminalWork & { ask: "open" | "write" }, unknown>(
    new URL("load/terminal-worker.ts", import.meta.url),
  );
  try {
    const task = "t1";
    const urlOf = (n: number) => new URL(cluster.target(n, "p1").url).origin;
    const work = {
      side,
      url: side === "us" ? cluster.redis.url : urlOf(0),
      task,
      bytesPerSecond: rate,
      seconds,
    };
    process.env.WS_TERMINAL_BYTES_PER_SECOND = OURS.WS_TERMINAL_BYTES_PER_SECOND;
    await worker.ask({ ...work, ask: "open" });
    const targets = Array.from({ length: viewers }, (_, n): TerminalTarget => {
      const url = urlOf(n);
      if (side === "stock")
        return {
          url,
          namespace: "/terminal",
          query: {},
          auth: { task },
          messagePack: false,
          event: "output",
        };
      const encoding = n % 2 === 0 ? "json" : "messagepack";
      const query = { token: token(`viewer-${n}`, ["p1"]), encoding };
      const messagePack = encoding === "messagepack";
      return {
        url,
        namespace: terminalNamespace(task),
        query,
        auth: {},
        messagePack,
        event: "TERMINAL_OUTPUT",
      };
    });
    await audience.ask({ ask: "join", targets });
    signal(cluster.pids);
    const [cpu, redisCpu, memory] = [
      cpuMicroseconds(cluster.pids),
      cpuMicroseconds([cluster.redis.pid]),
      residentBytes(cluster.pids),
    ];
    const written = (await worker.ask({ ...work, ask: "write" })) as TerminalWritten;
    await audience.ask({ ask: "complete", bytes: written.bytes, patienceMs: 20_000 });
    signal(cluster.pids);
    const megabytes = (written.bytes * viewers) / 1e6;
    const nodeCpuPerMegabyte = (cpuMicroseconds(cluster.pids) - cpu) / megabytes;
    const redisCpuPerMegabyte = (cpuMicroseconds([cluster.redis.pid]) - redisCpu) / (written.bytes / 1e6);
    const grownMiB = (residentBytes(cluster.pids) - memory) / 1_048_576;
    const seen = (await audience.ask({ ask: "result" })) as TerminalSeen;
    const whole = seen.hashes.every((hash) => hash === written.hash) && seen.disconnects === 0;
    return {
      nodeCpuPerMegabyte,
      redisCpuPerMegabyte,
      grownMiB,
      p50: seen.p50,
      p95: seen.p95,
      whole,
      lateMs: written.lateMs,
    };
  } finally {
    await Promise.all([audience.end(), worker.end()]);
    await cluster.stop();
  }
}

const columns: [title: string, of: (figures: Figures) => string][] = [
  ["node CPU µs/MB", (one) => one.nodeCpuPerMegabyte.toFixed(0)],
  ["Redis CPU µs/MB in", (one) => one.redisCpuPerMegabyte.toFixed(0)],
  ["nodes grew MiB", (one) => one.grownMiB.toFixed(1)],
  ["P50 ms", (one) => one.p50.toFixed(1)],
  ["P95 ms", (one) => one.p95.toFixed(1)],
  ["worker late ms", (one) => one.lateMs.toFixed(0)],
  ["each byte, in order", (one) => (one.whole ? "yes" : "NO")],
];
const line = (label: string, cells: string[]) =>
  [label.padEnd(14), ...cells.map((cell, n) => cell.padStart(columns[n]?.[0].length ?? 0))].join("  ");

console.log(
  `One terminal at ${(rate / 1e6).toFixed(1)} MB/s for ${seconds} s, ${nodes} nodes, ${rounds} rounds of each side in turn. ` +
    "Stock is Socket.IO with its Redis streams adapter; half of our viewers speak MessagePack.",
);
for (const viewers of options.viewers.split(",").map(Number)) {
  console.log(
    `\n${viewers} viewers\n\n${line(
      "",
      columns.map(([title]) => title),
    )}`,
  );
  const done: (Figures & { side: Side })[] = [];
  for (let n = 1; n <= rounds; n++) {
    for (const side of sides) {
      const figures = await runRound(side, viewers);
      done.push({ side, ...figures });
      console.log(
        line(
          `${side}, round ${n}`,
          columns.map(([, of]) => of(figures)),
        ),
      );
      if (!figures.whole && side === "us") process.exitCode = 1;
    }
  }
  const cpuOf = (side: Side) =>
    median(done.filter((one) => one.side === side).map((one) => one.nodeCpuPerMegabyte));
  if (sides.length === 2) console.log(`us / stock, node CPU: ${(cpuOf("us") / cpuOf("stock")).toFixed(2)}`);
}
