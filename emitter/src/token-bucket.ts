import { limits } from "@agentwire/shared";

/** So much of a second may pass at once after a silence. */
const BURST_S = 0.05;

/** Lets bytes through at a rate; 0 is no limit. */
export class TokenBucket {
  readonly #perSecond: number;
  readonly #most: number;
  #tokens: number;
  #filledAt = performance.now();

  constructor(bytesPerSecond: number) {
    this.#perSecond = bytesPerSecond;
    this.#most = Math.max(limits.chunkBytes, bytesPerSecond * BURST_S);
    this.#tokens = this.#most;
  }

  /** Takes `bytes`, at most a chunk, and returns 0; or takes nothing and returns how many milliseconds to wait. */
  take(bytes: number): number {
    if (this.#perSecond === 0) return 0;
    const now = performance.now();
    this.#tokens = Math.min(this.#most, this.#tokens + ((now - this.#filledAt) * this.#perSecond) / 1000);
    this.#filledAt = now;
    if (this.#tokens < bytes) return ((bytes - this.#tokens) / this.#perSecond) * 1000;
    this.#tokens -= bytes;
    return 0;
  }
}
