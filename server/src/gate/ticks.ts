/** Deliveries after which the clock is asked again. */
const FRESH_FOR = 32;

/**
 * The turns of the event loop, for all lines of a node. What is to be written to one connection within a turn is written
 * at once the first time, and together at the end of the turn after that; and the clock, which every delivery asks, is
 * read now and then.
 */
export class Ticks {
  /** The present turn. */
  current = 0;
  #running = false;
  #atEnd: (() => void)[] = [];
  #time = 0;
  #asked = 0;

  /** Called when something is written in this turn. */
  touch(): void {
    if (this.#running) return;
    this.#running = true;
    process.nextTick(this.#end);
  }

  /** Calls this when the turn is over. */
  atEnd(callback: () => void): void {
    this.#atEnd.push(callback);
    this.touch();
  }

  /** Monotonic time (ms), exact to about the time that {@link FRESH_FOR} deliveries take. */
  now = (): number => {
    if (!this.#running || this.#asked++ % FRESH_FOR === 0) this.#time = performance.now();
    return this.#time;
  };

  #end = (): void => {
    this.#running = false;
    this.#asked = 0;
    this.current++;
    for (const callback of this.#atEnd.splice(0)) callback();
  };
}
