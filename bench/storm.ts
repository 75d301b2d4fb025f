import { chosen, orUsage, readOptions } from "./options.js";
import { type Fault, runStorm, type StormRound, type StormSide } from "./storm-round.js";
import { type Column, medianOf, table, verdict } from "./table.js";

const numbers = {
  clients: [500, 5000],
  behind: [5000, 9000],
  warmup: [500, 5000],
  projects: [10, 1000],
  "per-user": [5, 5],
  rate: [50, 1000],
  nodes: [3, 16],
  rounds: [3, 20],
  processes: [2, 16],
  patience: [90, 600],
} as const;
const texts = { faults: "cut,kill", sides: "stock,us", profile: "" };

/** The most that we may take of the stock recovery's time; how long the issue gives everybody, in seconds. */
const TARGETS = { ratio: 0.05, seconds: 30 };

// So that what was started is ended too when the run is cut short.
for (const signal of ["SIGINT", "SIGTERM"] as const) process.once(signal, () => process.exit(1));

const { options, sides, faults } = orUsage(() => {
  const options = readOptions(numbers, texts, process.argv.slice(2), process.env);
  const sides: StormSide[] = chosen("sides", options.sides, ["stock", "us"]);
  return { options, sides, faults: chosen<Fault>("faults", options.faults, ["cut", "kill"]) };
});
const { clients, behind, projects, rate, nodes, rounds } = options;

const column = (title: string, digits: number, of: (round: StormRound) => number): Column<StormRound> => ({
  title,
  digits,
  of,
});
const complete = column("all complete s", 2, ({ completeMs }) => completeMs / 1000);
const report = table([
  column("all back s", 2, ({ backMs }) => backMs / 1000),
  complete,
  column("never back", 0, ({ neverBack }) => neverBack),
  column("not recovered", 0, ({ startedAnew }) => startedAnew),
  column("incomplete", 0, ({ incomplete }) => incomplete),
  column("lost events", 0, ({ lost }) => lost),
  column("doubled", 0, ({ doubled }) => doubled),
  column("node CPU s", 2, ({ nodeCpuSeconds }) => nodeCpuSeconds),
  column("Redis CPU s", 2, ({ redisCpuSeconds }) => redisCpuSeconds),
  column("clients' CPU s", 2, ({ clientCpuSeconds }) => clientCpuSeconds),
  column("nodes' peak MiB", 0, ({ peakMiB }) => peakMiB),
]);

const what = {
  cut: "All connections are cut, the nodes live",
  kill: "The node of all clients is killed (kill -9)",
};
console.log(
  `Reconnect storm: ${clients} clients, ${projects} projects, ${nodes} nodes, ${rate} events/s, ${rounds} rounds of each ` +
    `side in turn.\nWhile everybody is away, ${behind} events are published; ${Math.ceil(behind / projects)} of them are ` +
    "for each client. Then all come back at once.\nStock is Socket.IO with its Redis streams adapter and " +
    "connectionStateRecovery.",
);
for (const fault of faults) {
  console.log(`\n${what[fault]}\n\n${report.header()}`);
  const done: StormRound[] = [];
  for (let n = 1; n <= rounds; n++) {
    for (const side of sides) {
      const round = await runStorm(side, { ...options, fault });
      done.push(round);
      console.log(report.row(`${side}, round ${n}`, round));
      const { neverBack, startedAnew, lost, failedPublishes } = round;
      if (side === "us" && neverBack + startedAnew + lost + failedPublishes > 0) process.exitCode = 1;
      if (failedPublishes > 0) console.error(`  ${side}, round ${n}: ${failedPublishes} failed publishes`);
    }
  }
  console.log(`\n${report.summary(done).join("\n")}`);
  if (!sides.includes("us")) continue;
  const seconds = medianOf(done, "us", complete.of);
  console.log(verdict("us, until the last one is complete", seconds, TARGETS.seconds, " s"));
  // What a killed node's clients missed, stock recovers for none of them: there is no time to compare with.
  if (fault === "cut" && sides.includes("stock")) {
    const ratio = seconds / medianOf(done, "stock", complete.of);
    if (Number.isNaN(ratio)) console.log("        the same, us / stock: none, since nobody was complete");
    else console.log(verdict("the same, us / stock", ratio, TARGETS.ratio));
  }
}
console.log(`
The time is from when everybody may come back. Who was never back, or lost something, does not count in stock's times.
CPU and memory are those of the nodes that live, of Redis and of the clients in that time.
Not measured: a network (loopback only), TLS, a load balancer, a browser's own work, polling, MessagePack. Clients, nodes
and Redis share the machine.
Not alike: only we verify tokens, count connections per user, check rights, keep records and tell what is complete.`);
