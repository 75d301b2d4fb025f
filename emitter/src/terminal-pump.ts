import { setTimeout as sleep } from "node:timers/promises";
import { limits } from "@agentwire/shared";
import type { TerminalMessage, TerminalOutput } from "@agentwire/shared/redis";
import type { TerminalRing } from "./terminal-ring.js";
import { TokenBucket } from "./token-bucket.js";

/** How long small writes are gathered. */
const GATHER_MS = 5;
/** Bytes that may wait for the rate limit; who writes more waits, and with it the child process. */
const WAITING_BYTES = 64 * 1024;
/** Bytes on their way to Redis. */
const UNCONFIRMED_BYTES = 256 * 1024;
const FIRST_PAUSE_MS = 10;
const LONGEST_PAUSE_MS = 200;

export interface PumpOptions {
  ring: TerminalRing;
  bytesPerSecond: number;
  /** What is sent first arrives first, or fails. */
  publish(message: TerminalOutput): Promise<unknown>;
  /** There may be {@link TerminalPump.room} again. */
  roomAgain(): void;
  /** Why Redis did not take something; it is tried again. */
  failed(error: unknown): void;
}

/**
 * Publishes what stands in the ring while somebody watches. `published` never passes a byte over, except those that the
 * ring has lost meanwhile: then the next chunk's offset tells it.
 */
export class TerminalPump {
  readonly #options: PumpOptions;
  readonly #bucket: TokenBucket;
  #published = 0;
  #isKnown = false;
  #watched = false;
  #closed = false;
  /** Redis does not answer: nobody is held up for it. */
  #away = false;
  #unconfirmed = 0;
  /** The first offset of those that Redis did not take. */
  #lostFrom: number | undefined;
  #progressAt = performance.now();
  #pause = FIRST_PAUSE_MS;
  #timer: NodeJS.Timeout | undefined;
  #watchdog: NodeJS.Timeout | undefined;

  constructor(options: PumpOptions) {
    this.#options = options;
    this.#bucket = new TokenBucket(options.bytesPerSecond);
  }

  /** How many bytes may be written to the ring now. */
  get room(): number {
    const { ring } = this.#options;
    if (!this.#isKnown) return ring.size - ring.end;
    if (!this.#watched || this.#away) return Number.POSITIVE_INFINITY;
    return Math.max(0, WAITING_BYTES - (ring.end - this.#published));
  }

  /** From now on it is known whether somebody watches. Until then nothing that was written may be lost. */
  known(): void {
    this.#isKnown = true;
    this.#options.roomAgain();
  }

  watch(watched: boolean): void {
    this.#watched = watched && !this.#closed;
    if (this.#watched) this.#schedule(0);
    else this.#options.roomAgain();
  }

  written(): void {
    this.#schedule(GATHER_MS);
  }

  /** What was published before, from `from` on; all there is where nobody watches. Live goes on after the last of it. */
  tail(from: number, publish: (message: TerminalMessage) => Promise<unknown>): void {
    const { ring } = this.#options;
    if (!this.#watched) this.#published = ring.end;
    this.#published = Math.max(this.#published, ring.start);
    for (let offset = Math.max(from, ring.start); offset < this.#published; ) {
      const chunk = ring.chunkAt(offset, this.#published);
      this.#send(publish(chunk), chunk.data.length);
      offset += chunk.data.length;
    }
    this.#send(publish({ tail_end: true, offset: this.#published }), 0);
  }

  /**
   * Settles when Redis has confirmed all, where somebody watches, or has done nothing for a second, or after `mostMs`.
   * @returns whether all is confirmed
   */
  async flush(mostMs = Number.POSITIVE_INFINITY): Promise<boolean> {
    const started = performance.now();
    this.#progressAt = started;
    while (!this.#closed && this.#watched && !this.#isFlushed()) {
      const now = performance.now();
      if (now - this.#progressAt > limits.publishTimeoutMs || now - started > mostMs) return false;
      await sleep(GATHER_MS);
    }
    return true;
  }

  /** Nothing is published any more, and nobody is held up. */
  close(): void {
    this.#closed = true;
    clearTimeout(this.#timer);
    clearTimeout(this.#watchdog);
    this.watch(false);
    this.known();
  }

  #isFlushed(): boolean {
    return this.#unconfirmed === 0 && this.#published >= this.#options.ring.end;
  }

  #schedule(ms: number): void {
    if (!this.#watched || this.#timer !== undefined) return;
    this.#timer = setTimeout(() => {
      this.#timer = undefined;
      this.#pump();
    }, ms);
  }

  #pump(): void {
    const { ring } = this.#options;
    if (!this.#watched) return;
    this.#published = Math.max(this.#published, ring.start);
    while (this.#published < ring.end) {
      // While Redis is away one chunk tries whether it is back. Whichever answer comes goes on from there.
      if (this.#unconfirmed >= (this.#away ? 1 : UNCONFIRMED_BYTES)) break;
      const chunk = ring.chunkAt(this.#published);
      const waitMs = this.#bucket.take(chunk.data.length);
      if (waitMs > 0) {
        if (this.#unconfirmed === 0) this.#nothingIsOwed();
        this.#schedule(Math.max(GATHER_MS, waitMs));
        break;
      }
      this.#published += chunk.data.length;
      this.#send(this.#options.publish(chunk), chunk.data.length, chunk.offset);
    }
    this.#options.roomAgain();
  }

  /** @param offset of what has to be sent again if it fails */
  #send(sending: Promise<unknown>, bytes: number, offset?: number): void {
    if (this.#unconfirmed === 0) this.#nothingIsOwed();
    this.#unconfirmed += bytes;
    this.#watchdog ??= setTimeout(() => this.#watch(), limits.publishTimeoutMs);
    sending.then(
      () => {
        this.#unconfirmed -= bytes;
        this.#progressAt = performance.now();
        if (this.#lostFrom === undefined) this.#redisIs("here");
        this.#goOn();
      },
      (error) => {
        this.#unconfirmed -= bytes;
        if (offset !== undefined) this.#lostFrom = Math.min(this.#lostFrom ?? offset, offset);
        this.#redisIs("away");
        this.#options.failed(error);
        this.#goOn();
      },
    );
  }

  #goOn(): void {
    if (this.#lostFrom === undefined) {
      if (this.#published < this.#options.ring.end) this.#schedule(GATHER_MS);
    } else if (this.#unconfirmed === 0) {
      this.#published = this.#lostFrom;
      this.#lostFrom = undefined;
      this.#schedule(this.#pause);
      this.#pause = Math.min(this.#pause * 2, LONGEST_PAUSE_MS);
    }
  }

  /** Redis is not slow when it was not asked. */
  #nothingIsOwed(): void {
    if (!this.#away) this.#progressAt = performance.now();
  }

  #redisIs(state: "here" | "away"): void {
    this.#away = state === "away";
    if (!this.#away) this.#pause = FIRST_PAUSE_MS;
    else this.#options.roomAgain();
  }

  #watch(): void {
    this.#watchdog = undefined;
    if (this.#unconfirmed === 0 || this.#closed) return;
    if (performance.now() - this.#progressAt >= limits.publishTimeoutMs) this.#redisIs("away");
    this.#watchdog = setTimeout(() => this.#watch(), limits.publishTimeoutMs / 4);
  }
}
