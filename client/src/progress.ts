import type { Filters, Progress, Status } from "@agentwire/shared";
import { compareSequence, SEQUENCE_START, type SequenceId } from "@agentwire/shared/sequence";
import type { ViewerEnvelope } from "./events.js";
import { createListeners, type Unsubscribe } from "./listeners.js";
import { createTaskMemory } from "./memory.js";
import { isStill, type Motion, moveTo, percentAt, secondsAt, settle } from "./smooth.js";
import { type Agent, matches } from "./store.js";

const ends: ReadonlySet<Status> = new Set(["completed", "failed", "cancelled"]);

/** The newest update of a task. */
export interface TaskProgress extends Readonly<Progress> {
  /** When it was published, ISO 8601. */
  readonly timestamp: string;
  /** `completed`, `failed` or `cancelled`, where its agent has said so; absent while it runs. */
  readonly ended?: Status;
}

/** A task at one moment. */
export interface ProgressNow {
  /** 0 to 100. */
  readonly percent: number;
  /** 0 or more; null while unknown, and for a task that ended before 100 %. */
  readonly estimated_seconds_remaining: number | null;
  /** Nothing moves until there is news: no need to ask for every frame. */
  readonly still: boolean;
}

/**
 * The tasks now. Fits React's `useSyncExternalStore(store.subscribe, store.getSnapshot)`. A task is forgotten 10 s after it
 * reached 100 % or ended, and after an hour of silence; at most 10,000 are remembered.
 */
export interface ProgressStore {
  get(taskId: string): TaskProgress | undefined;
  /** In the order in which they were first heard of. The same array until there is news; never changed itself. */
  getSnapshot(): readonly TaskProgress[];
  /** Called for news, not for every step of the movement between. */
  subscribe(listener: () => void): Unsubscribe;
  /**
   * Between two updates: moves evenly to the newest one, and is there before the next is due. Within an attempt it never
   * falls, and it never exceeds what was reported.
   * @param nowMs of the clock of `performance.now()` and `requestAnimationFrame`
   * @returns undefined for a task that is not known, or was forgotten
   */
  at(taskId: string, nowMs?: number): ProgressNow | undefined;
}

export interface WritableProgressStore extends ProgressStore {
  apply(envelope: ViewerEnvelope, nowMs?: number): void;
  /** A new history began: whatever status comes now is newer. */
  restart(): void;
}

interface Task {
  shown: TaskProgress;
  motion: Motion;
  /** The status change that says whether it ended. */
  statusAt: SequenceId;
}

/** @param agentOf what is known of an agent's status: it may have ended the task before the first update is here */
export function createProgressStore(agentOf: (agentId: string) => Agent | undefined): WritableProgressStore {
  const tasks = new Map<string, Task>();
  const memory = createTaskMemory();
  const listeners = createListeners<void>();
  let shown: readonly TaskProgress[] | undefined;

  function changed(): void {
    shown = undefined;
    listeners.call();
  }

  function forget(nowMs: number): boolean {
    const gone = memory.forget(nowMs);
    for (const taskId of gone) tasks.delete(taskId);
    return gone.length > 0;
  }

  function keepOnly(keep: (progress: TaskProgress) => boolean): boolean {
    const gone = [...tasks].filter(([, { shown }]) => !keep(shown));
    for (const [taskId] of gone) {
      tasks.delete(taskId);
      memory.drop(taskId);
    }
    return gone.length > 0;
  }

  function put(task: Task, nowMs: number): void {
    const { task_id, ended } = task.shown;
    tasks.set(task_id, task);
    memory.setOver(task_id, ended !== undefined || task.motion.to === 100, nowMs);
  }

  /** The status that the task's agent has now, where it is about this task. */
  function statusOf({ agent_id, task_id }: Progress): Agent | undefined {
    const agent = agentOf(agent_id);
    return agent?.task_id === task_id ? agent : undefined;
  }

  function update(progress: Progress, timestamp: string, nowMs: number): boolean {
    const { task_id, progress_percent: percent, estimated_seconds_remaining: secondsRemaining } = progress;
    const known = tasks.get(task_id);
    memory.heard(task_id, nowMs);
    // A node says the newest one again to who comes back: neither the movement nor the countdown begins anew.
    if (known && isSame(known.shown, progress)) return false;

    const status = known ? undefined : statusOf(progress);
    const isNewAttempt = known !== undefined && percent < known.motion.to;
    const ended = isNewAttempt ? undefined : (known?.shown.ended ?? endIn(status?.status));
    const motion = moveTo(known?.motion, { percent, secondsRemaining }, nowMs);
    const task: Task = {
      shown: { ...progress, timestamp, ...(ended && { ended }) },
      // The last update may come after the status: they take different roads.
      motion: ended ? settle(motion, nowMs) : motion,
      statusAt: known?.statusAt ?? status?.sequence_id ?? SEQUENCE_START,
    };
    put(task, nowMs);
    return true;
  }

  function agentSays(
    agentId: string,
    taskId: string,
    status: Status,
    at: SequenceId,
    nowMs: number,
  ): boolean {
    const task = tasks.get(taskId);
    if (!task || task.shown.agent_id !== agentId || compareSequence(at, task.statusAt) <= 0) return false;
    task.statusAt = at;
    const { ended: before, ...progress } = task.shown;
    const ended = endIn(status);
    if (ended === before) return false;
    const shown = { ...progress, ...(ended && { ended }) };
    put({ ...task, shown, motion: ended ? settle(task.motion, nowMs) : task.motion }, nowMs);
    return true;
  }

  function take(envelope: ViewerEnvelope, nowMs: number): boolean {
    switch (envelope.event_type) {
      case "PROGRESS_UPDATE":
        return update(envelope.payload, envelope.timestamp, nowMs);
      case "AGENT_STATUS_CHANGED": {
        const { agent_id, task_id, new_status } = envelope.payload;
        if (task_id === undefined || envelope.sequence_id === undefined) return false;
        return agentSays(agent_id, task_id, new_status, envelope.sequence_id, nowMs);
      }
      case "SNAPSHOT":
        return envelope.payload.agents
          .map(({ agent_id, task_id, status, sequence_id }) =>
            task_id === undefined ? false : agentSays(agent_id, task_id, status, sequence_id, nowMs),
          )
          .includes(true);
      // Nothing more will be heard of tasks outside the filters.
      case "FILTERS_UPDATED":
        return keepOnly((progress) => passes(envelope.payload, progress));
      case "ACCESS_REVOKED":
        return keepOnly(({ project_id }) => !envelope.payload.project_ids.includes(project_id));
      default:
        return false;
    }
  }

  return {
    get: (taskId) => tasks.get(taskId)?.shown,
    getSnapshot() {
      shown ??= Object.freeze([...tasks.values()].map((task) => task.shown));
      return shown;
    },
    subscribe: (listener) => listeners.add(listener),
    at(taskId, nowMs = performance.now()) {
      const motion = memory.remembers(taskId, nowMs) ? tasks.get(taskId)?.motion : undefined;
      if (!motion) return undefined;
      return {
        percent: percentAt(motion, nowMs),
        estimated_seconds_remaining: secondsAt(motion, nowMs),
        still: isStill(motion, nowMs),
      };
    },
    restart() {
      for (const task of tasks.values()) task.statusAt = SEQUENCE_START;
    },
    apply(envelope, nowMs = performance.now()) {
      // Before, so that nothing goes on from what is forgotten; after, because it may be one too many.
      const news = [forget(nowMs), take(envelope, nowMs), forget(nowMs)];
      if (news.includes(true)) changed();
    },
  };
}

function endIn(status: Status | undefined): Status | undefined {
  return status && ends.has(status) ? status : undefined;
}

function isSame(a: Progress, b: Progress): boolean {
  return (
    a.progress_percent === b.progress_percent &&
    a.current_step === b.current_step &&
    a.total_steps === b.total_steps &&
    a.message === b.message &&
    a.estimated_seconds_remaining === b.estimated_seconds_remaining
  );
}

function passes(filters: Filters, progress: Progress): boolean {
  const { event_types } = filters;
  const isHeard = event_types.some((name) => name === "PROGRESS" || name === "PROGRESS_UPDATE");
  return matches(filters, progress) && (event_types.length === 0 || isHeard);
}
