import type { Side } from "./clusters/cluster.js";
import { type Options, readOptions } from "./options.js";
import { header, heading, notMeasured, row, summary } from "./report.js";
import { faults, type Round, runRound } from "./round.js";

const SIDES: Side[] = ["us", "stock"];

// So that what was started is ended too when the run is cut short.
for (const signal of ["SIGINT", "SIGTERM"] as const) process.once(signal, () => process.exit(1));

function optionsOrUsage(): Options {
  try {
    return readOptions(process.argv.slice(2), process.env);
  } catch (error) {
    console.error(error instanceof Error ? error.message : error);
    process.exit(2);
  }
}

const options = optionsOrUsage();
const rounds: Round[] = [];

console.log(`${heading(options)}\n\n${header()}`);
for (let n = 1; n <= options.rounds; n++) {
  for (const side of SIDES) {
    const round = await runRound(side, options);
    rounds.push(round);
    console.log(row(`${side}, round ${n}`, round));
    for (const fault of faults(round)) {
      console.error(`  ${side}, round ${n}: ${fault}`);
      process.exitCode = 1;
    }
  }
}
console.log(`\n${summary(rounds).join("\n")}`);
if (!process.exitCode) {
  const deliveries = options.rate * options.seconds * options.viewers;
  console.log(`\nEach round: ${deliveries} of ${deliveries} deliveries, each once and in order.`);
}
console.log(`\n${notMeasured}`);
