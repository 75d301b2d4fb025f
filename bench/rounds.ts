import type { Side } from "./clusters/cluster.js";
import { eventsIn, type Load, type Round, runRound } from "./round.js";
import type { Table } from "./table.js";

// So that what was started is ended too when the run is cut short.
for (const signal of ["SIGINT", "SIGTERM"] as const) process.once(signal, () => process.exit(1));

/** The same load on each side in turn, again and again, and what came of it. A fault makes the exit code 1. */
export async function runRounds(sides: Side[], rounds: number, load: Load, table: Table): Promise<Round[]> {
  const done: Round[] = [];
  let faultless = true;
  console.log(table.header());
  for (let n = 1; n <= rounds; n++) {
    for (const side of sides) {
      const round = await runRound(side, load);
      done.push(round);
      console.log(table.row(`${side}, round ${n}`, round));
      for (const fault of faults(round)) {
        console.error(`  ${side}, round ${n}: ${fault}`);
        faultless = false;
      }
    }
  }
  console.log(`\n${table.summary(done).join("\n")}`);
  if (!faultless) process.exitCode = 1;
  else {
    const deliveries = (eventsIn(load, load.seconds) / load.projects) * load.viewers;
    console.log(`\nEach round: ${deliveries} of ${deliveries} deliveries, each once and in order.`);
  }
  return done;
}

/** What no round may have. */
function faults(round: Round): string[] {
  const { missing, repeated, disordered, damaged, disconnects, failedPublishes } = round;
  const counts = {
    missing,
    repeated,
    "out of order": disordered,
    damaged,
    disconnects,
    "failed publishes": failedPublishes,
  };
  return Object.entries(counts)
    .filter(([, count]) => count > 0)
    .map(([name, count]) => `${count} ${name}`);
}
