import { randomUUID } from "node:crypto";
import {
  AgentwireError,
  type Envelope,
  limits,
  ProgressBatch,
  type ProgressReport,
  type Status,
  type StatusChange,
  stamp,
  taskKey,
} from "@agentwire/shared";
import type { ProgressMessage, RedisKeys } from "@agentwire/shared/redis";
import type { Connection, Subscription } from "./connection.js";
import { Newest } from "./newest.js";
import { isLasting } from "./publish.js";
import { RunningTasks } from "./running-tasks.js";

export interface ProgressOptions {
  connection: Connection;
  keys: RedisKeys;
  batchMs: number;
}

/** What goes out: a new update for everybody, or one that was said before, for nodes that ask. */
interface Outgoing {
  message: ProgressMessage;
  isNew: boolean;
}

/** Gathers the reports of this process' tasks, publishes what leaves, and says it again to nodes that ask. */
export class ProgressPublisher {
  readonly #options: ProgressOptions;
  readonly #batch: ProgressBatch;
  readonly #outgoing: Newest<Outgoing>;
  readonly #running = new RunningTasks((message) => this.#again(message));
  #subscription: Subscription | undefined;
  #closed = false;
  #warned = false;

  constructor(options: ProgressOptions) {
    this.#options = options;
    this.#batch = new ProgressBatch({
      batchMs: options.batchMs,
      send: ({ attempt, payload }) =>
        this.#publish({ attempt, envelope: stamp("PROGRESS_UPDATE", randomUUID(), payload) }),
    });
    this.#outgoing = new Newest({
      send: (outgoing) => this.#send(outgoing),
      refused: (error) => this.#refused(error),
    });
  }

  /** @throws AgentwireError `BAD_REQUEST` */
  assertCanPublish(): void {
    if (this.#options.connection.redis.publish) return;
    throw new AgentwireError("BAD_REQUEST", "redis: progress needs a client that can publish");
  }

  /** @throws AgentwireError `UNAVAILABLE` when closed */
  take(report: ProgressReport): void {
    if (this.#closed) throw new AgentwireError("UNAVAILABLE", "the emitter is closed");
    this.#subscription ??= this.#listen();
    this.#batch.take(report);
  }

  /** What was gathered of a task leaves before it is said that the task is over, not after. */
  statusChanges(change: Partial<StatusChange> | undefined): void {
    const { task_id, project_id, new_status } = change ?? {};
    if (task_id && project_id && isOver(new_status)) this.#batch.flush({ task_id, project_id });
  }

  /** It stands in the log: a task that is over is not said again to who comes later. */
  statusChanged({ task_id, project_id, new_status, attempt }: StatusChange): void {
    if (task_id && isOver(new_status)) this.#running.end({ task_id, project_id }, attempt);
  }

  /** What was gathered leaves, within a second. */
  async close(): Promise<void> {
    this.#closed = true;
    this.#batch.flush();
    this.#running.close();
    const [unsent] = await Promise.all([this.#outgoing.close(), this.#subscription?.close()]);
    if (unsent > 0) warn(`progress of ${unsent} tasks was not published: Redis did not answer`);
  }

  #listen(): Subscription {
    const { connection, keys } = this.#options;
    return connection.listen(keys.progressAsked, {
      heard: (text) => this.#running.asked(projectOf(text)),
      // Nodes that came back before us have asked in vain.
      hears: () => this.#running.askedForAll(),
      failed: (error) => {
        if (isLasting(error)) this.#refused(error);
      },
    });
  }

  #publish(message: ProgressMessage): void {
    const { payload } = message.envelope;
    if (payload.progress_percent < 100) this.#running.set(message);
    else this.#running.end(payload);
    this.#outgoing.put(taskKey(payload), { message, isNew: true });
  }

  #again(message: ProgressMessage): void {
    const key = taskKey(message.envelope.payload);
    if (!this.#outgoing.waits(key)) this.#outgoing.put(key, { message, isNew: false });
  }

  async #send({ message, isNew }: Outgoing): Promise<void> {
    const { connection, keys } = this.#options;
    const { envelope } = message;
    await Promise.all([
      connection.redis.publish?.(keys.progress(envelope.payload.project_id), JSON.stringify(message)),
      isNew && connection.redis.publish?.(keys.bus(envelope.event_type), busMessage(envelope)),
    ]);
  }

  /** `progress()` has returned long before: there is no caller to tell. Once, since each update is refused alike. */
  #refused(error: Error): void {
    if (this.#warned) return;
    this.#warned = true;
    warn(`progress is not published, Redis refused: ${error.message}`);
  }
}

/** @throws AgentwireError `BAD_REQUEST` */
export function batchMsOf(value: number | string = limits.progressBatchMs): number {
  const ms = Number(value);
  if (Number.isInteger(ms) && ms >= 0 && ms <= 60_000) return ms;
  throw new AgentwireError("BAD_REQUEST", "WS_PROGRESS_BATCH_MS must be a whole number from 0 to 60000");
}

function isOver(status: Status | undefined): boolean {
  return status === "completed" || status === "failed" || status === "cancelled";
}

/** For the consumers of the existing event bus. */
function busMessage({ event_type, event_id, timestamp, payload }: Envelope<"PROGRESS_UPDATE">): string {
  const entity = { entity_type: "task", entity_id: payload.task_id };
  return JSON.stringify({ event_type, ...entity, timestamp, event_id, origin: "agentwire", payload });
}

/** Who has no running task there ignores it; so is what is no question, since nobody could be told. */
function projectOf(text: string): string {
  try {
    const { project_id } = JSON.parse(text);
    return typeof project_id === "string" ? project_id : "";
  } catch {
    return "";
  }
}

function warn(message: string): void {
  process.emitWarning(message, "AgentwireWarning");
}
