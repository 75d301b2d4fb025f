import { parseArgs } from "node:util";

/** What a run measures. Each is a flag, `--rate 200`, or a variable, `BENCH_RATE=200`. */
const defaults = { rate: 200, seconds: 10, viewers: 50, nodes: 2, rounds: 3, warmup: 3 };

/** Above this a run would no longer be short, or no longer fit one machine. */
const most = { rate: 5000, seconds: 300, viewers: 5000, nodes: 16, rounds: 20, warmup: 60 };

type Name = keyof typeof defaults;
export type Options = Record<Name, number> & {
  /** A folder for a CPU profile of each node; the figures are worth less then. */
  profile: string;
};

/** @throws Error with one line that names the bad option */
export function readOptions(argv: string[], env: NodeJS.ProcessEnv): Options {
  const names = Object.keys(defaults) as Name[];
  const { values } = parseArgs({
    args: argv,
    options: Object.fromEntries([...names, "profile"].map((name) => [name, { type: "string" as const }])),
  });
  const given = (name: string) => values[name] ?? env[`BENCH_${name.toUpperCase()}`];

  const options = { ...defaults, profile: String(given("profile") ?? "") };
  for (const name of names) {
    const number = Number(given(name) ?? defaults[name]);
    if (!Number.isInteger(number) || number < 1 || number > most[name]) {
      throw new Error(`--${name} must be a whole number from 1 to ${most[name]}, not "${given(name)}"`);
    }
    options[name] = number;
  }
  return options;
}
