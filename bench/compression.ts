import { chosen, orUsage, readOptions } from "./options.js";
import { columns } from "./report.js";
import { NotNegotiated } from "./round.js";
import { runRounds } from "./rounds.js";
import { type Column, medianOf, table, verdict } from "./table.js";

const numbers = {
  viewers: [2000, 9000],
  rate: [1, 100],
  seconds: [10, 300],
  rounds: [3, 20],
  warmup: [4, 60],
  rest: [10, 300],
} as const;

/** Of stock's processor time per delivery; KiB of the node's memory per connection. */
const TARGETS = { cpu: 0.1, memory: 64 };

const { options, sides } = orUsage(() => {
  const options = readOptions(
    numbers,
    { sides: "us,stock", profile: "" },
    process.argv.slice(2),
    process.env,
  );
  return { options, sides: chosen("sides", options.sides, ["us", "stock"]) };
});
const { rate, viewers } = options;
const { p50, p95, pace, node, rest, redis, bytes, memory, nodeShare, audienceShare, late } = columns;

console.log(
  `Compressed fan-out on one node: events of 4 KB, ${rate}/s, to ${viewers} connections in one room; ` +
    `${options.rounds} rounds of each side in turn, ${options.seconds} s each. Stock is Socket.IO with its Redis streams ` +
    "adapter and perMessageDeflate: true.\n",
);
const rounds = await runRounds(
  sides,
  options.rounds,
  {
    ...options,
    nodes: 1,
    env: { stock: { COMPRESSION: "1" } },
    kind: "long",
    client: "deflating",
    projects: 1,
  },
  table([node, rest, memory, bytes, p50, p95, pace, redis, nodeShare, audienceShare, late]),
).catch((error) => {
  if (!(error instanceof NotNegotiated)) throw error;
  console.error(error.message);
  process.exit(1);
});
if (sides.length === 2) {
  const ratio = (of: Column["of"]) => medianOf(rounds, "us", of) / medianOf(rounds, "stock", of);
  const delivering = ratio((round) => node.of(round) - rest.of(round));
  console.log(verdict("node CPU per delivery, us / stock", ratio(node.of), TARGETS.cpu));
  console.log(`        without what the connections cost at rest: ${delivering.toFixed(2)}`);
}
if (sides.includes("us"))
  console.log(verdict("memory, us", medianOf(rounds, "us", memory.of), TARGETS.memory, " KiB/connection"));
console.log(`
Every delivery's text was compared with what was published. The memory is VmRSS as it stands, garbage included; viewers
are stock ws clients in one process, which inflate by themselves.
Not measured: a network (loopback only), TLS, a browser's own inflating, MessagePack, small messages, many rooms.
Not alike: our frames do not refer to earlier messages (no context takeover), so they are larger; stock's may. Only we
renew a record of each connection in Redis every 5 s: what a node spends at rest weighs much at this low rate.`);
