/** All limits count over this (ms). */
export const WINDOW_MS = 1000;

const RING = 1024;

/**
 * How many were sent in the last second, counted in buckets of one millisecond. A bucket leaves when the whole of it is
 * a second old, so no window of one second, wherever it begins, holds more than was allowed. Times are monotonic (ms).
 */
export class SlidingWindow {
  readonly #sent = new Uint32Array(RING);
  /** Buckets before the first one are empty; the last one is the present. */
  #first = 0;
  #last = 0;
  #count = 0;

  count(now: number): number {
    this.#moveTo(now);
    return this.#count;
  }

  /** Counts one, unless `limit` are in the window. */
  take(now: number, limit: number): boolean {
    this.#moveTo(now);
    if (this.#count >= limit) return false;
    this.#add(this.#last, 1);
    return true;
  }

  /** One that was taken at `now` was not sent. */
  giveBack(now: number): void {
    const bucket = Math.floor(now);
    if (bucket >= this.#first && bucket <= this.#last && this.#at(bucket) > 0) this.#add(bucket, -1);
  }

  /** The time (ms) from which fewer than `limit` are in the window; Infinity for a limit of 0. */
  roomAt(now: number, limit: number): number {
    this.#moveTo(now);
    let over = this.#count - limit + 1;
    if (over <= 0) return now;
    if (limit <= 0) return Number.POSITIVE_INFINITY;
    while (this.#first < this.#last && this.#at(this.#first) === 0) this.#first++;
    for (let bucket = this.#first; bucket <= this.#last; bucket++) {
      over -= this.#at(bucket);
      if (over <= 0) return bucket + 1 + WINDOW_MS;
    }
    return Number.POSITIVE_INFINITY;
  }

  #moveTo(now: number): void {
    const bucket = Math.floor(now);
    // A time that lies back is taken for the present: what is sent now must not leave sooner.
    if (bucket <= this.#last) return;
    this.#last = bucket;
    for (const oldest = bucket - WINDOW_MS; this.#first < oldest && this.#count > 0; this.#first++) {
      this.#add(this.#first, -this.#at(this.#first));
    }
    if (this.#count === 0) this.#first = bucket;
  }

  #at(bucket: number): number {
    return this.#sent[bucket % RING] ?? 0;
  }

  #add(bucket: number, n: number): void {
    this.#sent[bucket % RING] = this.#at(bucket) + n;
    this.#count += n;
  }
}

const NEVER = Number.NEGATIVE_INFINITY;
const FEW = 8;

/**
 * At most `limit` in any second, for one connection: the times (ms) of the last ones that were sent. It keeps no more of
 * them than the connection has had in a second so far: most have few, and there are 10,000. A limit of 0 is none.
 */
export class SlidingLog {
  /** A ring. */
  #times: number[] = [];
  #oldest = 0;

  constructor(private readonly limit: number) {}

  take(now: number): boolean {
    if (this.limit === 0) return true;
    if (this.#freeAt() > now && !this.#grow()) return false;
    this.#times[this.#oldest] = now;
    this.#oldest = (this.#oldest + 1) % this.#times.length;
    return true;
  }

  /** The time (ms) at which the next one is allowed; `now` when that is at once. */
  nextAt(now: number): number {
    return this.#times.length < this.limit || this.limit === 0 ? now : Math.max(now, this.#freeAt());
  }

  #freeAt(): number {
    return (this.#times[this.#oldest] ?? Number.POSITIVE_INFINITY) + WINDOW_MS;
  }

  #grow(): boolean {
    const { length } = this.#times;
    if (length === this.limit) return false;
    const more = Math.min(this.limit, Math.max(FEW, 2 * length)) - length;
    const inOrder = [...this.#times.slice(this.#oldest), ...this.#times.slice(0, this.#oldest)];
    this.#times = [...new Array<number>(more).fill(NEVER), ...inOrder];
    this.#oldest = 0;
    return true;
  }
}
