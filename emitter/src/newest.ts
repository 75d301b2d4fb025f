import { setTimeout as sleep } from "node:timers/promises";
import { limits } from "@agentwire/shared";
import { isLasting } from "./publish.js";

const FIRST_PAUSE_MS = 10;
const LONGEST_PAUSE_MS = 200;

export interface NewestOptions<T> {
  /** Sends it once; it must be safe to repeat. */
  send(value: T): Promise<unknown>;
  /** Redis answered with an error that will come again: this value is given up. */
  refused(error: Error): void;
}

/**
 * Sends the newest value of each key. While Redis is away a newer one takes the older one's place, so what waits is
 * bounded by the number of keys, and nothing old is sent after something new.
 */
export class Newest<T> {
  readonly #options: NewestOptions<T>;
  readonly #waiting = new Map<string, T>();
  readonly #given = new AbortController();
  #sending: Promise<void> | undefined;

  constructor(options: NewestOptions<T>) {
    this.#options = options;
  }

  waits(key: string): boolean {
    return this.#waiting.has(key);
  }

  put(key: string, value: T): void {
    this.#waiting.delete(key);
    this.#waiting.set(key, value);
    this.#sending ??= this.#send();
  }

  /**
   * Settles when nothing waits any more, after a second at most. Nothing may be put afterwards.
   * @returns how many were not sent
   */
  async close(): Promise<number> {
    const timer = setTimeout(() => this.#given.abort(), limits.publishTimeoutMs);
    const given = new Promise((resolve) => this.#given.signal.addEventListener("abort", resolve));
    await Promise.race([this.#sending, given]);
    clearTimeout(timer);
    return this.#waiting.size;
  }

  /** One round after the other: a value that has to be sent again never passes a newer one of its key. */
  async #send(): Promise<void> {
    for (let pause = FIRST_PAUSE_MS; this.#waiting.size > 0 && !this.#given.signal.aborted; ) {
      const round = [...this.#waiting];
      this.#waiting.clear();
      const sent = await Promise.all(round.map(([key, value]) => this.#sendOne(key, value)));
      if (sent.every(Boolean)) {
        pause = FIRST_PAUSE_MS;
        continue;
      }
      await sleep(pause);
      pause = Math.min(pause * 2, LONGEST_PAUSE_MS);
    }
    this.#sending = undefined;
  }

  /** @returns false where it has to be sent again */
  async #sendOne(key: string, value: T): Promise<boolean> {
    try {
      await this.#options.send(value);
      return true;
    } catch (error) {
      if (isLasting(error)) {
        this.#options.refused(error);
        return true;
      }
      if (!this.#waiting.has(key)) this.#waiting.set(key, value);
      return false;
    }
  }
}
