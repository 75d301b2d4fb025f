import type { Progress, ProgressReport } from "./progress.js";
import { RemainingTime } from "./remaining-time.js";

/** One task's progress over its attempts. Times are milliseconds of any one clock; a monotonic one is best. */
export class TaskProgress {
  #newest: ProgressReport | undefined;
  #percent = 0;
  #reachedAtMs = 0;
  #message = "";
  #gathered = 0;
  #remaining = new RemainingTime();

  /** The newest attempt; 0 before the first report. */
  get attempt(): number {
    return this.#newest?.attempt ?? 0;
  }

  /** How far it is, exactly; 100 only when it is complete. */
  get percent(): number {
    return this.#percent;
  }

  /** Reports that were taken since the last update. */
  get gathered(): number {
    return this.#gathered;
  }

  /**
   * Takes one report of this task. A later attempt starts over, the estimate too. A report without a message leaves
   * the message as it is.
   * @returns false where it is of an earlier attempt, or its percent lower than what was reached: it changes nothing
   *   then, and is not counted in `batched_updates`
   */
  take(report: ProgressReport, atMs: number): boolean {
    const percent = percentOf(report);
    if (report.attempt > this.attempt) this.#startOver();
    else if (report.attempt < this.attempt || percent < this.#percent) return false;

    if (!this.#newest || percent > this.#percent) this.#reachedAtMs = atMs;
    this.#newest = report;
    this.#percent = percent;
    this.#message = report.message || this.#message;
    this.#gathered++;
    return true;
  }

  /**
   * The payload for all that was taken since the last update, with the estimate as of now.
   * @throws Error where nothing was taken since then
   */
  update(atMs: number): Progress {
    if (!this.#newest || this.#gathered === 0) throw new Error("no report was taken since the last update");
    const { task_id, agent_id, project_id, current_step, total_steps } = this.#newest;
    this.#remaining.observe(this.#percent, this.#reachedAtMs);
    const batched_updates = this.#gathered;
    this.#gathered = 0;
    return {
      task_id,
      agent_id,
      project_id,
      current_step: current_step ?? null,
      total_steps: total_steps ?? null,
      progress_percent: rounded(this.#percent),
      message: this.#message,
      estimated_seconds_remaining: this.#remaining.estimate(atMs),
      batched_updates,
    };
  }

  #startOver(): void {
    this.#newest = undefined;
    this.#percent = 0;
    this.#message = "";
    this.#gathered = 0;
    this.#remaining = new RemainingTime();
  }
}

/** Steps say it exactly; `progress_percent` is asked only where they are not known. */
function percentOf({ current_step, total_steps, progress_percent }: ProgressReport): number {
  if (current_step == null || total_steps == null) return progress_percent ?? 0;
  return current_step === total_steps ? 100 : Math.min((current_step / total_steps) * 100, ALMOST);
}

const ALMOST = 99.999_999;

/** Two digits after the point. What is not complete is never rounded up to 100. */
function rounded(percent: number): number {
  return percent === 100 ? 100 : Math.min(Math.round(percent * 100) / 100, 99.99);
}
