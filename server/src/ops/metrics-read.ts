import { Counter, Gauge, type Registry } from "prom-client";

export type Values = Iterable<[labels: Record<string, string>, value: number]>;
interface About {
  name: string;
  help: string;
  labelNames?: string[];
}

/** Counters and gauges whose values are read when somebody asks for them: they cost nothing until then. */
export function reader(registry: Registry) {
  const registers = [registry];
  return {
    count(about: About, read: () => Values): void {
      new Counter({
        ...about,
        registers,
        collect() {
          this.reset();
          for (const [labels, value] of read()) this.inc(labels, value);
        },
      });
    },
    gauge(about: About, read: () => Values): void {
      new Gauge({
        ...about,
        registers,
        collect() {
          this.reset();
          for (const [labels, value] of read()) this.set(labels, value);
        },
      });
    },
  };
}

export const one = (read: () => number) => (): Values => [[{}, read()]];

export const OTHER = "other";

/** A value from outside becomes a label only where it is one of a known few: each new one costs memory for good. */
export const oneOf = (known: readonly string[], value: string): string =>
  known.includes(value) ? value : OTHER;
