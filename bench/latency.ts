import { orUsage, readOptions } from "./options.js";
import { columns } from "./report.js";
import { runRounds } from "./rounds.js";
import { table } from "./table.js";

const numbers = {
  rate: [200, 5000],
  seconds: [10, 300],
  viewers: [50, 5000],
  nodes: [2, 16],
  rounds: [3, 20],
  warmup: [3, 60],
} as const;

const options = orUsage(() => readOptions(numbers, { profile: "" }, process.argv.slice(2), process.env));
const { rate, seconds, viewers, nodes, rounds } = options;
const { p50, p95, p99, max, pace, node, redis, bytes, late } = columns;

/** The load is above these limits on purpose. */
const WITHOUT_LIMITS = { WS_RATE_LIMIT_PER_CONNECTION: "0", WS_RATE_LIMIT_GLOBAL: "0" };

console.log(
  `Publish to browser: ${rate} events/s for ${seconds} s to each of ${viewers} viewers, ` +
    `${nodes} nodes, ${rounds} rounds of each side in turn. Stock is Socket.IO with its Redis streams adapter.\n`,
);
await runRounds(
  ["us", "stock"],
  rounds,
  { ...options, kind: "usual", client: "stock", projects: 1, rest: 0, env: { us: WITHOUT_LIMITS } },
  table([p50, p95, p99, max, pace, node, redis, bytes, late]),
);
console.log(`
Not measured: a network (everything runs on one machine, over loopback, and shares its cores with the load), TLS, a
proxy, a browser's own work (the clients are stock socket.io-client in one Node process, over WebSocket), MessagePack,
filters, replay, drops, memory, and load near the limit (the nodes are mostly idle here).
Rate limits are off: the load is above them.
Not alike: a publish of ours is also written to the snapshot, to each viewer's replay index and to the event bus, which
each node reads; our events carry a sequence_id, twice. Stock does none of that, and checks no right.`);
