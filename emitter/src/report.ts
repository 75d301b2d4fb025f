import { randomUUID } from "node:crypto";
import { setTimeout as sleep } from "node:timers/promises";
import { AgentwireError, type StatusChange } from "@agentwire/shared";
import type { Emitter } from "./index.js";

const FIRST_PAUSE_MS = 100;
const LONGEST_PAUSE_MS = 1000;

/** What was not published in the end, and why the last try failed. */
export interface Lost {
  statuses: string[];
  cause: AgentwireError;
}

/**
 * Publishes in the background and in order, each change again and again with the same `event_id` until it is
 * confirmed, so that whoever says it need not wait.
 */
export class Report {
  readonly #emitter: Emitter;
  readonly #over = new AbortController();
  readonly #unsaid: string[] = [];
  #cause: AgentwireError | undefined;
  #last: Promise<void> = Promise.resolve();

  constructor(emitter: Emitter) {
    this.#emitter = emitter;
  }

  say(change: Omit<StatusChange, "event_id">): void {
    const event = { ...change, event_id: randomUUID() };
    this.#last = this.#last.then(() => this.#publish(event));
  }

  /** Gives what is not yet confirmed `waitMs` more. */
  async finish(waitMs: number): Promise<Lost | undefined> {
    const timer = setTimeout(() => this.giveUp(), waitMs);
    await this.#last;
    clearTimeout(timer);
    return this.#cause && this.#unsaid.length > 0
      ? { statuses: this.#unsaid, cause: this.#cause }
      : undefined;
  }

  giveUp(): void {
    this.#over.abort();
  }

  async #publish(event: StatusChange): Promise<void> {
    for (let pause = FIRST_PAUSE_MS; ; pause = Math.min(pause * 2, LONGEST_PAUSE_MS)) {
      try {
        await this.#emitter.agentStatus(event);
        return;
      } catch (error) {
        if (!(error instanceof AgentwireError)) throw error;
        this.#cause = error;
        if (error.code !== "UNAVAILABLE" || this.#over.signal.aborted) break;
      }
      await this.#pause(pause);
    }
    this.#unsaid.push(event.new_status);
  }

  /** Cut short by {@link giveUp}: one more try follows, which may be the one that succeeds. */
  async #pause(ms: number): Promise<void> {
    try {
      await sleep(ms, undefined, { signal: this.#over.signal });
    } catch (error) {
      if (!this.#over.signal.aborted) throw error;
    }
  }
}
