import { ProgressReport, parseEvent } from "@agentwire/shared";
import type { ProgressPublisher } from "./progress.js";
import type { Terminal } from "./terminal.js";
import type { Terminals } from "./terminals.js";

export interface TaskSubject {
  task_id: string;
  agent_id: string;
  project_id: string;
  /** Which try at the task this is; counts from 1, which is the default. Progress never goes backwards within one. */
  attempt?: number;
}

/** Steps, or percent where the number of steps is not known. Without a message the last one stays. */
export type TaskReport =
  | { current_step: number; total_steps: number; message?: string }
  | { progress_percent: number; message?: string };

export interface Task {
  /**
   * Says how far the task is, and returns at once. What is said within 100 ms becomes one update; while Redis is away
   * the newest waits for it. What is behind the percent that was said before changes nothing.
   *
   * @throws AgentwireError `INVALID_EVENT`, naming the field; `UNAVAILABLE` when the emitter is closed
   */
  progress(report: TaskReport): void;
  /**
   * Opens the task's terminal: `child.stdout.pipe(terminal.stdout)`, and `end(exit_code)` when the child's streams have
   * closed.
   *
   * @throws AgentwireError `BAD_REQUEST` when this emitter has it open already, or its `redis` is no ioredis client;
   *   `UNAVAILABLE` when the emitter is closed
   */
  terminal(): Terminal;
}

/** @throws AgentwireError: see `Emitter.task` */
export function openTask(publisher: ProgressPublisher, terminals: Terminals, subject: TaskSubject): Task {
  const { attempt, task_id, agent_id, project_id } = parse({ ...subject, progress_percent: 0 });
  publisher.assertCanPublish();
  return {
    progress(report) {
      publisher.take(parse({ ...report, task_id, agent_id, project_id, attempt }));
    },
    terminal: () => terminals.open({ task_id, agent_id, project_id, attempt }),
  };
}

const parse = (input: unknown): ProgressReport => parseEvent(ProgressReport, input, "progress");
