import { limits, type TaskName, taskKey } from "@agentwire/shared";
import type { ProgressMessage } from "@agentwire/shared/redis";

/**
 * The newest progress of each running task of this process, for viewers that come in the middle: it stands nowhere in
 * Redis. Said again to who asks, at most once per 100 ms and project.
 */
export class RunningTasks {
  readonly #again: (message: ProgressMessage) => void;
  /** By task; the one heard of last is the last. */
  readonly #newest = new Map<string, ProgressMessage>();
  /** Projects of which all was said just now, and whether somebody asked since then. */
  readonly #resting = new Map<string, { timer: NodeJS.Timeout; asked: boolean }>();

  constructor(again: (message: ProgressMessage) => void) {
    this.#again = again;
  }

  set(message: ProgressMessage): void {
    const key = taskKey(message.envelope.payload);
    this.#newest.delete(key);
    this.#newest.set(key, message);
    if (this.#newest.size <= limits.progressTasks) return;
    const [oldest] = this.#newest.keys();
    if (oldest !== undefined) this.#newest.delete(oldest);
  }

  /** A later attempt than this one goes on. */
  end(name: TaskName, attempt = Number.POSITIVE_INFINITY): void {
    const key = taskKey(name);
    const message = this.#newest.get(key);
    if (message && message.attempt <= attempt) this.#newest.delete(key);
  }

  asked(projectId: string): void {
    const resting = this.#resting.get(projectId);
    if (resting) {
      resting.asked = true;
      return;
    }
    const messages = [...this.#newest.values()].filter(
      ({ envelope }) => envelope.payload.project_id === projectId,
    );
    if (messages.length === 0) return;
    for (const message of messages) this.#again(message);
    const timer = setTimeout(() => {
      const rested = this.#resting.get(projectId);
      this.#resting.delete(projectId);
      if (rested?.asked) this.asked(projectId);
    }, limits.progressBatchMs);
    this.#resting.set(projectId, { timer, asked: false });
  }

  askedForAll(): void {
    const projects = new Set([...this.#newest.values()].map(({ envelope }) => envelope.payload.project_id));
    for (const projectId of projects) this.asked(projectId);
  }

  close(): void {
    for (const { timer } of this.#resting.values()) clearTimeout(timer);
    this.#resting.clear();
    this.#newest.clear();
  }
}
