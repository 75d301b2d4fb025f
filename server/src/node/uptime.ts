import { setTimeout as pause } from "node:timers/promises";
import type { Logger } from "pino";

/**
 * - `starting`: Redis was not there yet, or this node's reader has not proven that it reads
 * - `ready`: viewers are welcome
 * - `away`: Redis is gone; viewers that are here stay
 * - `draining`: viewers that are here are sent elsewhere, and served until they go
 * - `stopped`: for good
 */
export type Readiness = { name: "starting" | "ready" | "away" | "draining" | "stopped" };

/** Redis is there, and is none to work with: to wait for it does not help. */
export class Unfit extends Error {}

export interface ReadinessOptions {
  /**
   * Everything between "Redis answers" and "viewers are welcome"; again after each outage. Safe to repeat.
   * @throws Unfit
   */
  comeUp(signal: AbortSignal): Promise<void>;
  /** A look at what this node may have missed, each second. */
  look(): Promise<void>;
  /** Renews what would expire, each five seconds. */
  beat(): Promise<void>;
  /** Why something failed, where more is known than the error says. */
  reason(error: unknown): unknown;
  /** Redis is gone; the viewers should know. */
  onLost(): void;
  /** Redis is there again, and the node as it was. */
  onBack(): void;
  logger: Logger;
}

const LOOK_MS = 1000;
export const BEAT_MS = 5000;
const RETRY_MS = 200;
/** What is under way when the node is stopped has so long to end. */
const STOP_MS = 2000;
/** A node that waits for Redis longer than this says so. */
const PATIENCE_MS = 2000;

/** Brings the node up when Redis is there, notices when it is not, and brings it up again. */
export class Uptime {
  #state: Readiness = { name: "starting" };
  readonly #stopped = new AbortController();
  #draining = false;
  #lastBeat = 0;
  #running: Promise<void> | undefined;

  constructor(private readonly options: ReadinessOptions) {}

  get state(): Readiness {
    return this.#draining && this.#state.name !== "stopped" ? { name: "draining" } : this.#state;
  }

  /** Whether Redis answers, or did a moment ago. */
  get redisAnswers(): boolean {
    return this.#state.name === "ready";
  }

  /** From now on nobody is welcome any more; everything else goes on, until {@link stop}. */
  drain(): void {
    this.#draining = true;
  }

  /** To be called when the connection to Redis is lost: the next look may be a second away. */
  lost(because: unknown): void {
    if (this.#state.name !== "ready") return;
    this.options.logger.warn({ err: String(because) }, "redis is away");
    this.#state = { name: "away" };
    this.options.onLost();
  }

  /**
   * Runs until {@link stop}; resolves when the node is ready for the first time.
   * @throws Unfit where it must not become ready; later on it only says so, and stays as it is
   */
  async start(): Promise<void> {
    const coming = this.#untilReady(true);
    // Who stops it meanwhile waits for this, and then removes what it has written.
    this.#running = coming.catch(() => {});
    await coming;
    this.#running = this.#run();
  }

  /** Resolves when nothing of this is under way any more. */
  async stop(): Promise<void> {
    this.#state = { name: "stopped" };
    this.#stopped.abort();
    // What waits for a Redis that is away may wait as long as it is.
    await Promise.race([this.#running, pause(STOP_MS, undefined, { ref: false })]);
  }

  async #untilReady(first = false): Promise<void> {
    const { signal } = this.#stopped;
    const began = performance.now();
    let said = false;
    while (!signal.aborted && this.#state.name !== "ready") {
      try {
        await this.options.comeUp(signal);
        if (!signal.aborted) this.#state = { name: "ready" };
        this.#lastBeat = performance.now();
      } catch (error) {
        const isUnfit = error instanceof Unfit;
        if (isUnfit && first) throw error;
        // Once, and not for the moment that connecting takes: a mistyped address must not look like a node that hangs.
        const { logger } = this.options;
        const isLong = performance.now() - began > PATIENCE_MS;
        const err = String(this.options.reason(error));
        if (isUnfit && !said) logger.error({ err: error.message }, "not ready");
        else if (isLong && !said) logger.warn({ err }, "not ready yet, trying again");
        else logger.debug({ err }, "not ready yet");
        said ||= isLong || isUnfit;
        await pause(RETRY_MS);
      }
    }
  }

  async #run(): Promise<void> {
    const { signal } = this.#stopped;
    while (!signal.aborted) {
      await pause(LOOK_MS, undefined, { signal, ref: false }).catch(() => {});
      if (signal.aborted) return;
      try {
        if (this.#state.name !== "ready") {
          await this.#untilReady();
          if (signal.aborted) return;
          this.options.logger.info("redis is back");
          this.options.onBack();
        }
        await this.options.look();
        if (performance.now() - this.#lastBeat >= BEAT_MS) {
          await this.options.beat();
          this.#lastBeat = performance.now();
        }
      } catch (error) {
        this.lost(this.options.reason(error));
      }
    }
  }
}
