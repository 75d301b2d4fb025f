import type { Envelope, Filters, SequenceId } from "@agentwire/shared";
import type { Connection, Outgoing } from "./connection.js";
import { Continuity } from "./continuity.js";
import type { Start } from "./join.js";
import { Listeners } from "./listeners.js";
import type { ProgressBoard } from "./progress.js";

/** A durable event as the stream hands it over. */
export interface Entry {
  id: SequenceId;
  prev: SequenceId;
  epoch: string;
  rooms: string[];
  envelope: Envelope;
}

export interface HubOptions {
  outgoing(envelope: Envelope): Outgoing;
  join(connection: Connection, start: Start): Promise<void>;
  /** Called when a connection has come, before anything is read for it. */
  onArrival(): void;
  /** Told who is here and hears what, and of each event of the log. */
  progress: Pick<ProgressBoard, "watch" | "unwatch" | "ended">;
  /** Says why history is read for so many connections: live delivery had a hole, or may have had one. */
  onRefill(because: string, connections: number): void;
}

/** The node's connections, and the one place where an event from the stream is given to those who may hear it. */
export class Hub {
  readonly connections = new Map<string, Connection>();
  readonly continuity = new Continuity();
  readonly #listeners = new Listeners();

  constructor(private readonly options: HubOptions) {}

  /** The last durable event this node handled. */
  get last(): SequenceId {
    return this.continuity.last;
  }

  add(connection: Connection, start: Start): void {
    this.connections.set(connection.id, connection);
    this.#listeners.add(connection);
    this.options.onArrival();
    connection.onBehind = () => void this.options.join(connection, { name: "resume" });
    void this.options.join(connection, start);
    this.options.progress.watch(connection);
  }

  remove(id: string): void {
    const connection = this.connections.get(id);
    if (!connection) return;
    this.connections.delete(id);
    this.#listeners.remove(connection);
    this.options.progress.unwatch(connection);
  }

  /** Those in any of these rooms, each once. */
  listenersIn(rooms: readonly string[]): Iterable<Connection> {
    return this.#listeners.in(rooms);
  }

  /**
   * Gives a connection other filters.
   * @returns the place in the log from which on they count
   */
  refilter(connection: Connection, filters: Filters): SequenceId {
    this.#listeners.remove(connection);
    const here = connection.live || connection.refill !== undefined;
    const after = here ? this.continuity.last : connection.position;
    if (here) connection.filterAfter(after, filters);
    else connection.filters = filters;
    this.#listen(connection);
    // What a join has read already lacks the new rooms' events since its position: it reads again from there.
    if (!connection.live) connection.fallBehind(connection.position);
    return after;
  }

  /** Gives a connection the rights of today. What it is sent from now on, from wherever, is judged by them. */
  renewRights(connection: Connection, projects: ReadonlySet<string>): void {
    this.#listeners.remove(connection);
    connection.projects = projects;
    this.#listen(connection);
  }

  /** How far a connection has come: one that is live has everything that this node has handled. */
  positionOf(connection: Connection): SequenceId {
    return connection.live ? this.continuity.last : connection.position;
  }

  entry(entry: Entry): void {
    const finding = this.continuity.judgeEntry(entry);
    if (finding === "repeat") return;
    if (finding !== "next") this.#refill(finding);
    this.continuity.epoch = entry.epoch;
    this.continuity.last = entry.id;
    this.#deliver(entry);
    this.options.progress.ended(entry.envelope);
  }

  /** A look at Redis found this; `head` and `epoch` are what stands there. */
  level(finding: "behind" | "other_history", head: SequenceId, epoch: string): void {
    this.#refill(finding);
    // Behind: the reader has still to hand over what lies between, and will be asked for it.
    if (finding === "behind") return;
    this.continuity.epoch = epoch;
    this.continuity.last = head;
  }

  /** Reads history for everybody who is not being brought up to date anyway, and so proves that nothing is missing. */
  prove(because: string): void {
    this.#refill(because, ({ live }) => live);
  }

  /** One that left meanwhile is not put back. */
  #listen(connection: Connection): void {
    if (!this.connections.has(connection.id)) return;
    this.#listeners.add(connection);
    this.options.progress.watch(connection);
  }

  #deliver({ rooms, envelope, prev }: Entry): void {
    let event: Outgoing | undefined;
    for (const connection of this.#listeners.in(rooms)) {
      event ??= this.options.outgoing(envelope);
      connection.hear(event, prev);
    }
  }

  #refill(because: string, whom: (connection: Connection) => boolean = () => true): void {
    let count = 0;
    for (const connection of this.connections.values()) {
      if (!whom(connection) || !connection.missedLive(this.continuity.last)) continue;
      count++;
      void this.options.join(connection, { name: "resume" });
    }
    this.options.onRefill(because, count);
  }
}
