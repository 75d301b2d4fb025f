import type { Envelope, EventType, PayloadOf, SequenceId } from "@agentwire/shared";
import type { Connection, Outgoing } from "./connection.js";
import { Continuity } from "./continuity.js";
import type { Start } from "./join.js";

/** A durable event as the stream hands it over. */
export interface Entry {
  id: SequenceId;
  prev: SequenceId;
  epoch: string;
  rooms: string[];
  envelope: Envelope;
}

export interface HubOptions {
  /** The ids of the connections of this node in a room. */
  members(room: string): ReadonlySet<string>;
  outgoing(envelope: Envelope): Outgoing;
  join(connection: Connection, start: Start): Promise<void>;
  /** Says that live delivery had a hole, and for how many connections it is being filled. */
  onRefill(because: string, connections: number): void;
}

/** The node's connections, and the one place where an event from the stream is given to those who may hear it. */
export class Hub {
  readonly connections = new Map<string, Connection>();
  readonly continuity = new Continuity();

  constructor(private readonly options: HubOptions) {}

  /** The last durable event this node handled. */
  get last(): SequenceId {
    return this.continuity.last;
  }

  add(connection: Connection, start: Start): void {
    this.connections.set(connection.id, connection);
    connection.onBehind = () => void this.options.join(connection, { name: "resume" });
    void this.options.join(connection, start);
  }

  remove(id: string): void {
    this.connections.delete(id);
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
  }

  /** A look at Redis found this; `head` and `epoch` are what stands there. */
  level(finding: "behind" | "other_history", head: SequenceId, epoch: string): void {
    this.#refill(finding);
    // Behind: the reader has still to hand over what lies between, and will be asked for it.
    if (finding === "behind") return;
    this.continuity.epoch = epoch;
    this.continuity.last = head;
  }

  /** Says something to every connection of this node. */
  tell<E extends EventType>(event_type: E, payload: PayloadOf<E>): void {
    for (const { exit } of this.connections.values()) exit.say(event_type, payload);
  }

  #deliver({ rooms, envelope, prev }: Entry): void {
    const members = rooms.map(this.options.members).filter((ids) => ids.size > 0);
    if (members.length === 0) return;
    const event = this.options.outgoing(envelope);
    // Who is in several of the rooms hears it once.
    const ids =
      members.length === 1
        ? (members[0] as ReadonlySet<string>)
        : new Set(members.flatMap((one) => [...one]));
    for (const id of ids) this.connections.get(id)?.hear(event, prev);
  }

  #refill(because: string): void {
    let count = 0;
    for (const connection of this.connections.values()) {
      if (!connection.fallBehind(this.continuity.last)) continue;
      count++;
      void this.options.join(connection, { name: "resume" });
    }
    this.options.onRefill(because, count);
  }
}
