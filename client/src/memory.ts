/** A task without news for this long is forgotten. */
const SILENT_MS = 3_600_000;
/** One that is over stays on show for this long. */
const OVER_MS = 10_000;
const MAX_TASKS = 10_000;

/** Which tasks are remembered. Both lists are in the order of time, so that to forget never means to look at all. */
export interface TaskMemory {
  heard(taskId: string, nowMs: number): void;
  /** The task is at 100 % or has ended; or it goes on after all. */
  setOver(taskId: string, isOver: boolean, nowMs: number): void;
  remembers(taskId: string, nowMs: number): boolean;
  drop(taskId: string): void;
  /** Drops what is not remembered any more, and returns it. Beyond 10,000: those that are over, then the most silent. */
  forget(nowMs: number): string[];
}

export function createTaskMemory(): TaskMemory {
  const heardMs = new Map<string, number>();
  const overMs = new Map<string, number>();

  const remembers = (taskId: string, nowMs: number): boolean => {
    const heard = heardMs.get(taskId);
    const over = overMs.get(taskId);
    return heard !== undefined && nowMs - heard < SILENT_MS && (over === undefined || nowMs - over < OVER_MS);
  };

  function drop(taskId: string): void {
    heardMs.delete(taskId);
    overMs.delete(taskId);
  }

  return {
    remembers,
    drop,
    heard(taskId, nowMs) {
      heardMs.delete(taskId);
      heardMs.set(taskId, nowMs);
    },
    setOver(taskId, isOver, nowMs) {
      if (!isOver) overMs.delete(taskId);
      else if (!overMs.has(taskId)) overMs.set(taskId, nowMs);
    },
    forget(nowMs) {
      const gone: string[] = [];
      for (const oldestFirst of [overMs, heardMs]) {
        for (const taskId of oldestFirst.keys()) {
          if (heardMs.size <= MAX_TASKS && remembers(taskId, nowMs)) break;
          drop(taskId);
          gone.push(taskId);
        }
      }
      return gone;
    },
  };
}
