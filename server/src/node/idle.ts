import type { Visit } from "./visit.js";

/** In ms; `idle`: a connection that is in no namespace for this long is closed, one that never joined, or left. */
const TIMES = { idle: 10_000, sweep: 1000 };

/** Ends connections that have a place and no use for it. */
export class Idle {
  readonly #since = new WeakMap<Visit, number>();
  #timer: NodeJS.Timeout | undefined;

  constructor(
    private readonly visits: Iterable<Visit>,
    private readonly times = TIMES,
  ) {}

  start(): void {
    this.#timer = setInterval(() => this.#sweep(performance.now()), this.times.sweep);
  }

  stop(): void {
    clearInterval(this.#timer);
  }

  #sweep(now: number): void {
    for (const visit of this.visits) {
      const since = this.#since.get(visit);
      if (visit.namespaces.size > 0) this.#since.delete(visit);
      else if (since === undefined) this.#since.set(visit, now);
      else if (now - since >= this.times.idle) visit.end();
    }
  }
}
