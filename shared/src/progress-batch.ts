import { limits } from "./limits.js";
import type { Progress, ProgressReport } from "./progress.js";
import { TaskProgress } from "./task-progress.js";

/** How long a complete task is remembered, so that a report that comes late does not start it again. */
const COMPLETE_KEPT_MS = 60_000;

/** What leaves: all that was gathered of one task. */
export interface TaskUpdate {
  attempt: number;
  payload: Progress;
}

export interface Clock {
  /** Milliseconds; only differences count. */
  now(): number;
  /** Runs it later; what is returned takes that back. */
  after(ms: number, run: () => void): () => void;
}

export interface ProgressBatchOptions {
  /** Must not throw. */
  send(update: TaskUpdate): void;
  batchMs?: number;
  clock?: Clock;
}

interface Gathering {
  progress: TaskProgress;
  /** Takes the end of the batch back. */
  cancel?: (() => void) | undefined;
}

/** A task, by its project too: tasks of two projects may have the same id. */
export type TaskName = Pick<ProgressReport, "project_id" | "task_id">;

export const taskKey = ({ project_id, task_id }: TaskName): string => `${project_id}/${task_id}`;

/**
 * Gathers the reports of many tasks. A task's first report starts a batch; at its end one update leaves. The report
 * that completes a task leaves at once, with what was gathered. It remembers `limits.progressTasks` tasks, those that
 * were heard of last, and a complete one for a minute: what comes later for one that is forgotten starts it over.
 */
export class ProgressBatch {
  readonly #send: (update: TaskUpdate) => void;
  readonly #batchMs: number;
  readonly #clock: Clock;
  /** The one heard of last is the last. */
  readonly #tasks = new Map<string, Gathering>();
  /** Since when (ms) they are complete; the earliest is the first. */
  readonly #complete = new Map<string, number>();

  constructor({ send, batchMs = limits.progressBatchMs, clock = systemClock }: ProgressBatchOptions) {
    this.#send = send;
    this.#batchMs = batchMs;
    this.#clock = clock;
  }

  /** How many tasks it remembers. */
  get size(): number {
    return this.#tasks.size;
  }

  /** @returns false where the report is behind: see {@link TaskProgress.take} */
  take(report: ProgressReport): boolean {
    const now = this.#clock.now();
    const key = taskKey(report);
    this.#forgetComplete(now);
    const task = this.#tasks.get(key) ?? { progress: new TaskProgress() };
    this.#tasks.delete(key);
    this.#tasks.set(key, task);
    this.#forgetOldest();

    const { attempt, percent } = task.progress;
    if (!task.progress.take(report, now)) return false;
    this.#complete.delete(key);
    const isComplete = task.progress.percent === 100;
    if (isComplete) this.#complete.set(key, now);
    if (isComplete && (percent < 100 || report.attempt > attempt)) this.#leave(task);
    else task.cancel ??= this.#clock.after(this.#batchMs, () => this.#leave(task));
    return true;
  }

  /** What was gathered leaves now; of one task where it is named, of all otherwise. */
  flush(name?: TaskName): void {
    if (!name) for (const task of this.#tasks.values()) this.#leave(task);
    const named = name && this.#tasks.get(taskKey(name));
    if (named) this.#leave(named);
  }

  #leave(task: Gathering): void {
    task.cancel?.();
    task.cancel = undefined;
    const { progress } = task;
    if (progress.gathered === 0) return;
    this.#send({ attempt: progress.attempt, payload: progress.update(this.#clock.now()) });
  }

  #forgetComplete(now: number): void {
    for (const [key, since] of this.#complete) {
      if (now - since < COMPLETE_KEPT_MS) return;
      this.#forget(key);
    }
  }

  #forgetOldest(): void {
    if (this.#tasks.size <= limits.progressTasks) return;
    const [oldest] = this.#tasks.keys();
    if (oldest !== undefined) this.#forget(oldest);
  }

  #forget(key: string): void {
    const task = this.#tasks.get(key);
    this.#tasks.delete(key);
    this.#complete.delete(key);
    if (task) this.#leave(task);
  }
}

const systemClock: Clock = {
  now: () => performance.now(),
  after(ms, run) {
    const timer = setTimeout(run, ms);
    return () => clearTimeout(timer);
  },
};
