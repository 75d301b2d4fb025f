/** How fast what was observed before is forgotten: per gap of the usual length it counts e^-1.25, 0.29 of before. */
const FORGETTING = 1.25;
/** From one estimate to the next it at most doubles or halves, beyond the time that passed. */
const CHANGE_AT_MOST = 2;
/** While a task stands still, no less than this part of what was left when it stopped. */
const LEFT_AT_LEAST = 1 / 4;
/** What would take longer is said to take a year. */
const LONGEST_S = 365 * 24 * 3600;

/**
 * How long a task will still take, from how fast its percent grew. A gap is the time from one observed percent to the
 * next higher one. Older gaps count less, by how long ago they were measured in gaps of the usual length: one such gap
 * makes them count 1/e. So updates may come as irregularly as they like, and five at a new speed outweigh all before.
 *
 * With a constant speed it is exact. Its change is bounded: after an estimate of E, and t seconds later,
 * `max(0, E - t) / 2 <= next <= 2 * max(E, t)` (but for the rounding to three digits, and for the 0 of a task that is
 * complete). While nothing moves it counts down for one usual gap at most, then it grows.
 */
export class RemainingTime {
  #percent: number | undefined;
  /** Where the last gap ended. */
  #gapEnd = { percent: 0, atMs: 0 };
  #gaps = 0;
  #usualGapS = 0;
  /** Weighted sums over the gaps; their quotient is the speed. */
  #moved = 0;
  #tookS = 0;
  #last: { seconds: number; atMs: number } | undefined;

  /** `percent`, 0 to 100, was reached at `atMs`; never less than before. */
  observe(percent: number, atMs: number): void {
    const first = this.#percent === undefined;
    this.#percent = percent;
    const moved = percent - this.#gapEnd.percent;
    const tookS = (atMs - this.#gapEnd.atMs) / 1000;
    if (first) this.#gapEnd = { percent, atMs };
    // Nothing moved, or no time passed: this belongs to the gap that ends later.
    if (first || moved <= 0 || tookS <= 0) return;

    const kept = this.#gaps === 0 ? 0 : Math.exp((-FORGETTING * tookS) / this.#usualGapS);
    this.#moved = this.#moved * kept + moved;
    this.#tookS = this.#tookS * kept + tookS;
    // Halved by each short gap, so that a pause of an hour does not stay the measure of what is forgotten.
    this.#usualGapS = this.#gaps === 0 ? tookS : (this.#usualGapS + tookS) / 2;
    this.#gaps++;
    this.#gapEnd = { percent, atMs };
  }

  /** Seconds from `atMs` on, three digits of them; `null` before two gaps. Asked once for each update that leaves. */
  estimate(atMs: number): number | null {
    if (this.#percent === 100) return 0;
    if (this.#percent === undefined || this.#gaps < 2) return null;

    const stoodS = Math.max(0, atMs - this.#gapEnd.atMs) / 1000;
    const overdueS = Math.max(0, stoodS - this.#usualGapS);
    const left = Math.min(((100 - this.#percent) * (this.#tookS + overdueS)) / this.#moved, LONGEST_S);
    const seconds = this.#bounded(
      Math.max(left - Math.min(stoodS, this.#usualGapS), left * LEFT_AT_LEAST),
      atMs,
    );
    // Exactly, or the digits that are cut off would count beside what is left near the end.
    this.#last = { seconds, atMs };
    return Number(seconds.toPrecision(3));
  }

  #bounded(seconds: number, atMs: number): number {
    if (!this.#last) return seconds;
    const passedS = Math.max(0, atMs - this.#last.atMs) / 1000;
    const least = Math.max(0, this.#last.seconds - passedS) / CHANGE_AT_MOST;
    const most = CHANGE_AT_MOST * Math.max(this.#last.seconds, passedS);
    return Math.min(Math.max(seconds, least), most);
  }
}
