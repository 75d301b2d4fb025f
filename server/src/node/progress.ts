import {
  type Envelope,
  events,
  type Filters,
  type PayloadOf,
  progressPasses,
  type Status,
  taskKey,
} from "@agentwire/shared";
import type { ProgressMessage } from "@agentwire/shared/redis";
import type { Connection, Outgoing } from "./connection.js";

export interface ProgressOptions {
  /** Begins to listen to a project; `listening` is called when what is said there is heard. */
  watch(project: string, heard: (text: string) => void, listening: () => void): void;
  /** @returns whether nobody on this node watches it any more */
  unwatch(project: string): boolean;
  /** Asks whoever has running tasks in this project to say again how far they are. */
  ask(project: string): void;
  outgoing(envelope: Envelope): Outgoing;
  /** Connections in any of these rooms. */
  listenersIn(rooms: readonly string[]): Iterable<Connection>;
  onBad(error: unknown): void;
}

type ProgressPayload = PayloadOf<"PROGRESS_UPDATE">;

interface Latest {
  attempt: number;
  event: Outgoing;
  at: number;
  isComplete: boolean;
}

/** A task that says nothing for this long is not running. */
const SILENT_MS = 3_600_000;
/** So many are shown again at once: fewer than wait for one connection. */
const AT_ONCE = 10;
const ENDED = new Set<Status>(["completed", "failed", "cancelled"]);
/** Tasks that are remembered for one project. */
const MAX_TASKS = 10_000;

/**
 * How far the running tasks are, in projects that somebody on this node watches: the newest of each task, in this node's
 * memory only. Whoever comes in the middle gets that at once.
 */
export class ProgressBoard {
  readonly #watched = new Map<Connection, readonly string[]>();
  /** By project and task; of tasks, the one that was heard of last stands last. */
  readonly #latest = new Map<string, Map<string, Latest>>();
  /** Tasks whose newest update was dropped on the way to a connection. */
  readonly #due = new WeakMap<Connection, Map<string, ProgressPayload>>();

  constructor(private readonly options: ProgressOptions) {}

  /** A connection has come, or hears other things from now on. What it has not seen of what it wants is shown to it. */
  watch(connection: Connection): void {
    connection.onStale = (event) => this.#stale(connection, event);
    const before = this.#watched.get(connection) ?? [];
    const now = projectsWatchedBy(connection);
    this.#watched.set(connection, now);
    for (const project of now) if (!before.includes(project)) this.#begin(project);
    for (const project of before) if (!now.includes(project)) this.#end(project);
    for (const project of now) this.#show(project, connection);
  }

  /** What tasks have said was missed, or who asked for it was not heard. */
  askAll(): void {
    for (const project of new Set([...this.#watched.values()].flat())) this.options.ask(project);
  }

  /** It has left. */
  unwatch(connection: Connection): void {
    const projects = this.#watched.get(connection) ?? [];
    this.#watched.delete(connection);
    for (const project of projects) this.#end(project);
  }

  /** Takes an event of the log: where a task has ended nobody who comes now needs to know how far it was. */
  ended({ payload }: Envelope): void {
    const { project_id, task_id, new_status } = payload as Partial<PayloadOf<"AGENT_STATUS_CHANGED">>;
    if (project_id === undefined || task_id === undefined || new_status === undefined) return;
    if (ENDED.has(new_status)) this.#latest.get(project_id)?.delete(task_id);
  }

  #begin(project: string): void {
    this.options.watch(
      project,
      (text) => this.#hear(project, text),
      () => this.options.ask(project),
    );
  }

  #end(project: string): void {
    if (this.options.unwatch(project)) this.#latest.delete(project);
  }

  #show(project: string, connection: Connection): void {
    const since = performance.now() - SILENT_MS;
    for (const { event, at, isComplete } of this.#latest.get(project)?.values() ?? [])
      if (!isComplete && at > since) connection.show(event);
  }

  /** The newest of each task arrives, however slow the client is: what was dropped is shown again, a few at a time. */
  #stale(connection: Connection, { envelope }: Outgoing): void {
    const payload = envelope.payload as ProgressPayload;
    const due = this.#due.get(connection);
    if (due) {
      due.set(taskKey(payload), payload);
      return;
    }
    this.#due.set(connection, new Map([[taskKey(payload), payload]]));
    void this.#showDue(connection);
  }

  async #showDue(connection: Connection): Promise<void> {
    const { exit } = connection;
    const due = this.#due.get(connection) ?? new Map<string, ProgressPayload>();
    while (due.size > 0 && exit.open) {
      await exit.drained();
      for (const [key, { task_id, project_id }] of [...due].slice(0, AT_ONCE)) {
        due.delete(key);
        const latest = this.#latest.get(project_id)?.get(task_id);
        if (latest) connection.show(latest.event);
      }
    }
    this.#due.delete(connection);
  }

  #hear(project: string, text: string): void {
    try {
      const message = parse(text, project);
      const event = this.#take(project, message);
      if (!event) return;
      const rooms = events.PROGRESS_UPDATE.rooms(message.envelope.payload);
      for (const connection of this.options.listenersIn(rooms)) connection.show(event);
    } catch (error) {
      this.options.onBad(error);
    }
  }

  /** Nothing for what is not new: within an attempt a task never goes backwards. */
  #take(project: string, { attempt, envelope }: ProgressMessage): Outgoing | undefined {
    const tasks = this.#latest.get(project) ?? new Map<string, Latest>();
    this.#latest.set(project, tasks);
    const { task_id, progress_percent } = envelope.payload;
    const known = tasks.get(task_id);
    if (known) {
      const before = known.event.envelope as Envelope<"PROGRESS_UPDATE">;
      if (before.event_id === envelope.event_id || attempt < known.attempt) return undefined;
      if (attempt === known.attempt && progress_percent < before.payload.progress_percent) return undefined;
      tasks.delete(task_id);
    }
    const event = this.options.outgoing(envelope);
    tasks.set(task_id, { attempt, event, at: performance.now(), isComplete: progress_percent === 100 });
    const [oldest] = tasks.keys();
    if (tasks.size > MAX_TASKS && oldest !== undefined) tasks.delete(oldest);
    return event;
  }
}

/** The projects whose tasks may pass this connection's filters. */
function projectsWatchedBy({
  filters,
  projects,
}: {
  filters: Filters;
  projects: ReadonlySet<string>;
}): string[] {
  if (!progressPasses(filters)) return [];
  const { project_ids } = filters;
  return project_ids.length > 0 ? project_ids.filter((id) => projects.has(id)) : [...projects];
}

/** @throws Error when it is not what a worker of ours says */
function parse(text: string, project: string): ProgressMessage {
  const { attempt, envelope } = JSON.parse(text) as ProgressMessage;
  const { event_id, timestamp } = envelope;
  const payload = events.PROGRESS_UPDATE.payload.parse(envelope.payload);
  if (payload.project_id !== project) throw new Error("progress of another project than its channel's");
  if (typeof event_id !== "string" || typeof timestamp !== "string" || !Number.isInteger(attempt))
    throw new Error("progress without event_id, timestamp or attempt");
  const known = { event_type: "PROGRESS_UPDATE", priority: "NORMAL" } as const;
  return { attempt, envelope: { ...known, event_id, timestamp, payload } };
}
