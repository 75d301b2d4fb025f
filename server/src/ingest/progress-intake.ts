import { randomUUID } from "node:crypto";
import { AgentwireError, ProgressBatch, type ProgressReport, stamp, taskKey } from "@agentwire/shared";
import type { ProgressMessage, RedisKeys } from "@agentwire/shared/redis";
import type { Logger } from "pino";
import { parseProgressMessage, parseProgressReport } from "./progress-message.js";

export interface ProgressIntakeOptions {
  keys: RedisKeys;
  /** Whether this node takes in what foreign workers say. */
  isHolder(): boolean;
  listen(channel: string, heard: (text: string) => void): void;
  deafen(channel: string): void;
  /** @returns how many heard it; @throws what Redis answers while it is away */
  publish(channel: string, text: string): Promise<number>;
  batchMs: number;
  maxBytes: number;
  logger: Logger;
}

const TICK_MS = 250;

/**
 * Takes in the progress of workers that keep no state of their own, over HTTP and on the event bus. One node does it, the
 * one with the bus lease: the estimate needs all that a task has said, and nobody is to hear a report twice. What it knows
 * is in its memory only; the next one begins anew.
 */
export class ProgressIntake {
  readonly #batch: ProgressBatch;
  /** The newest of each task that is not complete, for nodes that begin to watch. */
  readonly #running = new Map<string, ProgressMessage>();
  readonly #channels: [channel: string, heard: (text: string) => void][];
  #listening = false;
  #timer: NodeJS.Timeout | undefined;

  constructor(private readonly options: ProgressIntakeOptions) {
    const { keys, batchMs } = options;
    this.#batch = new ProgressBatch({
      batchMs,
      send: ({ attempt, payload }) =>
        this.#send({ attempt, envelope: stamp("PROGRESS_UPDATE", randomUUID(), payload) }),
    });
    this.#channels = [
      [keys.bus("PROGRESS_UPDATE"), (text) => this.#take(parseProgressMessage(text))],
      [keys.progressReports, (text) => this.#take(parseProgressReport(JSON.parse(text)))],
      [keys.progressAsked, (text) => this.#again(JSON.parse(text).project_id)],
    ];
  }

  start(): void {
    this.#timer = setInterval(() => this.#follow(this.options.isHolder()), TICK_MS);
  }

  /** What was gathered leaves. */
  stop(): void {
    clearInterval(this.#timer);
    this.#follow(false);
  }

  /**
   * Hands a report to the node that takes them in.
   * @throws AgentwireError `UNAVAILABLE` when there is none just now; what Redis answers while it is away
   */
  async report(report: ProgressReport): Promise<void> {
    const { keys, publish } = this.options;
    if ((await publish(keys.progressReports, JSON.stringify(report))) === 0)
      throw new AgentwireError("UNAVAILABLE", "no node takes in progress just now");
  }

  #follow(isHolder: boolean): void {
    if (isHolder === this.#listening) return;
    this.#listening = isHolder;
    for (const [channel, heard] of this.#channels) {
      if (isHolder) this.options.listen(channel, (text) => this.#hear(text, heard));
      else this.options.deafen(channel);
    }
    if (isHolder) return;
    this.#batch.flush();
    this.#running.clear();
  }

  #hear(text: string, heard: (text: string) => void): void {
    try {
      if (Buffer.byteLength(text) > this.options.maxBytes) throw new AgentwireError("PAYLOAD_TOO_LARGE");
      heard(text);
    } catch (error) {
      const { code, message } = error as AgentwireError;
      this.options.logger.warn({ code, err: message }, "bus message refused");
    }
  }

  #take(report: ProgressReport | undefined): void {
    if (report) this.#batch.take(report);
  }

  #again(project: unknown): void {
    for (const message of this.#running.values())
      if (message.envelope.payload.project_id === project) this.#publish(message);
  }

  #send(message: ProgressMessage): void {
    const { payload } = message.envelope;
    const key = taskKey(payload);
    this.#running.delete(key);
    if (payload.progress_percent < 100) this.#running.set(key, message);
    const [oldest] = this.#running.keys();
    if (this.#running.size > this.#batch.size && oldest !== undefined) this.#running.delete(oldest);
    this.#publish(message);
  }

  #publish(message: ProgressMessage): void {
    const { keys, publish, logger } = this.options;
    publish(keys.progress(message.envelope.payload.project_id), JSON.stringify(message)).catch((error) =>
      logger.warn({ err: String(error) }, "progress not published"),
    );
  }
}
