import { parseArgs } from "node:util";

/**
 * Each whole number that can be chosen: what it is by default, and above what a run would not fit one machine. Only what
 * is 0 by default may be 0.
 */
type Numbers = Record<string, readonly [standard: number, most: number]>;
type Texts = Record<string, string>;
export type Options<N extends Numbers, T extends Texts> = Record<keyof N, number> & Record<keyof T, string>;

/**
 * What a run measures. Each option is a flag, `--room-rate 5`, or a variable, `BENCH_ROOM_RATE=5`.
 *
 * @throws Error with one line that names the bad option
 */
export function readOptions<N extends Numbers, T extends Texts>(
  numbers: N,
  texts: T,
  argv: string[],
  env: NodeJS.ProcessEnv,
): Options<N, T> {
  const names = [...Object.keys(numbers), ...Object.keys(texts)];
  const { values } = parseArgs({
    args: argv,
    options: Object.fromEntries(names.map((name) => [name, { type: "string" as const }])),
  });
  const given = (name: string) => values[name] ?? env[`BENCH_${name.toUpperCase().replaceAll("-", "_")}`];

  const options: Record<string, number | string> = {};
  for (const [name, text] of Object.entries(texts)) options[name] = String(given(name) ?? text);
  for (const [name, [standard, most]] of Object.entries(numbers)) {
    const number = Number(given(name) ?? standard);
    const least = Math.min(1, standard);
    if (!Number.isInteger(number) || number < least || number > most) {
      throw new Error(`--${name} must be a whole number from ${least} to ${most}, not "${given(name)}"`);
    }
    options[name] = number;
  }
  return options as Options<N, T>;
}

/**
 * Those of `all` that a list names, in the order of `all`.
 * @throws Error naming the option, for a name that is none of them
 */
export function chosen<Name extends string>(option: string, list: string, all: Name[]): Name[] {
  const names = list.split(",");
  const wrong = names.find((name) => !(all as string[]).includes(name));
  if (wrong !== undefined) throw new Error(`--${option} may name ${all.join(", ")}, not "${wrong}"`);
  return all.filter((name) => names.includes(name));
}

/** What `read` returns; or one line on standard error, and exit code 2. */
export function orUsage<T>(read: () => T): T {
  try {
    return read();
  } catch (error) {
    console.error(error instanceof Error ? error.message : error);
    process.exit(2);
  }
}
