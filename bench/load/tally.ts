import { percentile } from "../stats.js";

/** What many viewers saw together. Times in ms. */
export interface Seen {
  p50: number;
  p95: number;
  p99: number;
  max: number;
  received: number;
  missing: number;
  repeated: number;
  disordered: number;
  /** {@link microseconds} of the last delivery. */
  lastArrival: number;
}

/**
 * What became of each event of one viewer. The viewer's events are counted from 1; those below are the warm-up, and
 * only tell that it is over.
 */
export class Tally {
  readonly #latencies: Float64Array;
  readonly #times: Uint8Array;
  #last = Number.NEGATIVE_INFINITY;
  #different = 0;
  received = 0;
  disordered = 0;
  lastArrival = 0;

  constructor(private readonly expected: number) {
    this.#latencies = new Float64Array(expected);
    this.#times = new Uint8Array(expected + 1);
  }

  /** Whether the last event of the warm-up was heard. */
  get warm(): boolean {
    return this.#last >= 0;
  }

  get missing(): number {
    return this.expected - this.#different;
  }

  get repeated(): number {
    return this.received - this.#different;
  }

  /** In ms; an extra copy has found no place among them. */
  get latencies(): Float64Array {
    return this.#latencies.subarray(0, this.received);
  }

  /** @param published and `now`: {@link microseconds} */
  hear(n: number, published: number, now: number): void {
    const before = this.#last;
    this.#last = n;
    if (n < 1) return;
    if (n <= before) this.disordered++;
    if (this.#times[n] === 0) this.#different++;
    this.#times[n] = 1;
    this.#latencies[this.received++] = (now - published) / 1000;
    this.lastArrival = now;
  }
}

export function together(tallies: Tally[]): Seen {
  const all = new Float64Array(tallies.reduce((sum, { latencies }) => sum + latencies.length, 0));
  let filled = 0;
  for (const { latencies } of tallies) {
    all.set(latencies, filled);
    filled += latencies.length;
  }
  const sorted = all.sort();
  const sum = (of: (tally: Tally) => number) => tallies.reduce((total, tally) => total + of(tally), 0);
  return {
    p50: percentile(sorted, 0.5),
    p95: percentile(sorted, 0.95),
    p99: percentile(sorted, 0.99),
    max: percentile(sorted, 1),
    received: sum(({ received }) => received),
    missing: sum(({ missing }) => missing),
    repeated: sum(({ repeated }) => repeated),
    disordered: sum(({ disordered }) => disordered),
    lastArrival: Math.max(...tallies.map(({ lastArrival }) => lastArrival)),
  };
}
