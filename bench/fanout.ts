import { chosen, orUsage, readOptions } from "./options.js";
import { columns } from "./report.js";
import type { Load } from "./round.js";
import { runRounds } from "./rounds.js";
import { medianOf, table, verdict } from "./table.js";

/** `room`: one with everybody in it; `rooms`: many small ones. */
const numbers = {
  "room-viewers": [3000, 9000],
  "room-rate": [5, 1000],
  rooms: [200, 5000],
  "rooms-viewers": [5000, 9000],
  "rooms-rate": [600, 5000],
  seconds: [10, 300],
  rounds: [3, 20],
  warmup: [2, 60],
  rest: [0, 300],
} as const;
const texts = { shape: "room,rooms", sides: "ws,stock,us", profile: "" };

/** The most that a delivery may cost us, as a multiple of what it costs them. */
const TARGETS = { stock: 0.75, ws: 1.35 };

const { options, shapes, sides } = orUsage(() => {
  const options = readOptions(numbers, texts, process.argv.slice(2), process.env);
  const shapes = chosen("shape", options.shape, ["room", "rooms"]);
  return { options, shapes, sides: chosen("sides", options.sides, ["ws", "stock", "us"]) };
});

/** Accounting is on, and the load is under the limits. */
const LIMITS = {
  WS_RATE_LIMIT_PER_CONNECTION: "100",
  WS_RATE_LIMIT_GLOBAL: "10000000",
  WS_MAX_CONNECTIONS_PER_USER: "0",
};

const load: Omit<Load, "viewers" | "projects" | "rate"> = {
  ...options,
  nodes: 1,
  env: { us: LIMITS },
  kind: "short",
  client: "bare",
};
const loads = {
  room: { ...load, viewers: options["room-viewers"], projects: 1, rate: options["room-rate"] },
  rooms: { ...load, viewers: options["rooms-viewers"], projects: options.rooms, rate: options["rooms-rate"] },
};
const { p50, p95, pace, node, rest, redis, bytes, nodeShare, audienceShare, late } = columns;
const report = table([
  node,
  ...(options.rest ? [rest] : []),
  redis,
  p50,
  p95,
  pace,
  bytes,
  nodeShare,
  audienceShare,
  late,
]);

console.log(
  `Fan-out on one node: ${options.rounds} rounds of each side in turn, ${options.seconds} s each. ws is bare ws, ` +
    "stock is Socket.IO with its Redis streams adapter.",
);
for (const shape of shapes) {
  const { viewers, projects, rate } = loads[shape];
  console.log(
    `\n${projects} ${projects > 1 ? "rooms" : "room"}, ${viewers} connections, ${rate} events/s, ` +
      `${Math.round((rate * viewers) / projects)} deliveries/s\n`,
  );
  const rounds = await runRounds(sides, options.rounds, loads[shape], report);
  if (!sides.includes("us")) continue;
  for (const other of ["stock", "ws"] as const) {
    if (!sides.includes(other)) continue;
    const ratio = medianOf(rounds, "us", node.of) / medianOf(rounds, other, node.of);
    console.log(verdict(`node CPU per delivery, us / ${other}`, ratio, TARGETS[other]));
  }
}
console.log(`
Not measured: a network (loopback only), TLS, a browser's own work, polling, MessagePack, filters, replay, drops, and load
near the limit. Redis, the load and the node share the machine. The latency is that of a burst, of one event to a whole
room, and all viewers are in one process.
Not alike: only we check rights, filters and limits, write each event for replay, and keep a record of each connection
in Redis, which is renewed every 5 s and counted here. ws keeps no connection alive by pings.`);
