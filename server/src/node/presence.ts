import { type Filters, SEQUENCE_START, type SequenceId } from "@agentwire/shared";
import type { ConnectionRecord, SessionProgress, SessionRecord } from "@agentwire/shared/redis";
import type { Connection } from "./connection.js";
import type { Visit } from "./visit.js";

/** One that hears statuses, as another node would go on with it. */
interface Listening {
  connection: Connection;
  /** None for a client that takes no part in resuming. */
  pid: string | undefined;
  /** The filters of its handshake. */
  asked: Filters;
  /** Where its session began, in the history that its connection now is in. */
  began: { epoch: string; position: SequenceId };
}

/** One connection as the rest of the cluster knows it; with `listening`, as long as it is in the namespace of statuses. */
interface Member {
  visit: Visit;
  listening?: Listening;
  turn: number;
}

/** What presence needs of storage. */
export interface PresenceStore {
  keepConnections(records: ConnectionRecord[]): Promise<void>;
  removeConnections(ids: string[]): Promise<void>;
  keepAudience(audience: Map<string, ReadonlySet<string>>): Promise<void>;
  /** Writes the session; false, and nothing, where it is another connection's. */
  keepSession(pid: string, session: SessionRecord): Promise<boolean>;
  noteProgress(progress: SessionProgress[], over: boolean): Promise<void>;
}

/** Redis does so many at once: others wait for a few milliseconds at most. */
const PAGE = 100;

/** Keeps what Redis says about this node's connections true: records, audience, sessions. */
export class Presence {
  readonly #members = new Map<string, Member>();
  readonly #leaving = new Set<Promise<void>>();
  /** Records that could not be removed while Redis was away. */
  #unremoved: string[] = [];
  /** Sessions that another connection had when they were to be written; it may be a dead one that gives them back. */
  readonly #unsaved = new Set<Member>();
  #round = 0;
  #added = 0;

  constructor(
    private readonly store: PresenceStore,
    private readonly positionOf: (connection: Connection) => SequenceId,
    /** In so many rounds of the heartbeat all that is known of a connection is written once. */
    private readonly rounds: number,
  ) {}

  get size(): number {
    return this.#members.size;
  }

  /** Resolves when the last record is removed; each goes when its connection closes. */
  async emptied(): Promise<void> {
    await Promise.all(this.#leaving);
  }

  /** From now on it is in a namespace, whichever. */
  async arrive(visit: Visit): Promise<void> {
    if (this.#members.has(visit.id)) return;
    this.#add(visit);
    await this.save(visit.id);
  }

  /** From now on it hears statuses; `save` is to follow. */
  hears(visit: Visit, listening: Listening): void {
    this.#add(visit).listening = listening;
  }

  #add(visit: Visit): Member {
    const known = this.#members.get(visit.id);
    if (known) return known;
    const member = { visit, turn: this.#added++ % this.rounds };
    this.#members.set(visit.id, member);
    return member;
  }

  /** Writes what another node needs to go on with this connection. */
  async save(id: string): Promise<void> {
    const member = this.#members.get(id);
    if (!member) return;
    await Promise.all([this.store.keepConnections([this.#record(member)]), this.#saveSession(member)]);
  }

  async #saveSession(member: Member): Promise<void> {
    const { listening } = member;
    if (listening?.pid === undefined) return;
    const { connection, asked } = listening;
    // A connection that was carried over into another history begins with that history.
    if (connection.epoch !== listening.began.epoch)
      listening.began = { epoch: connection.epoch, position: SEQUENCE_START };
    const saved = await this.store.keepSession(listening.pid, {
      user_id: connection.userId,
      epoch: listening.began.epoch,
      connection_id: connection.id,
      began: listening.began.position,
      last_sent: connection.lastSent,
      as_of: this.positionOf(connection),
      filters: connection.filters,
      asked,
    });
    if (saved) this.#unsaved.delete(member);
    else this.#unsaved.add(member);
  }

  /** It hears statuses no more. The session stays for the window, for the client to come back to. */
  async leaves(id: string): Promise<void> {
    const member = this.#members.get(id);
    if (!member?.listening) return;
    this.#unsaved.delete(member);
    const progress = this.#progress([member]);
    delete member.listening;
    await this.store.noteProgress(progress, true);
  }

  /** Its connection is closed: the record goes, too. */
  async remove(id: string): Promise<void> {
    const member = this.#members.get(id);
    if (!member) return;
    this.#members.delete(id);
    this.#unsaved.delete(member);
    const progress = this.#progress([member]);
    const leaving = Promise.all([
      this.store.removeConnections([id]),
      this.store.noteProgress(progress, true),
    ]).then(() => {});
    this.#leaving.add(leaving);
    try {
      await leaving;
    } catch (error) {
      this.#unremoved.push(id);
      throw error;
    } finally {
      this.#leaving.delete(leaving);
    }
  }

  /**
   * One round of the heartbeat: of what is known about each connection (its record, its user's place in the audience, how
   * far it has come) it is the turn of a part.
   */
  async keepAll(): Promise<void> {
    const unremoved = this.#unremoved.splice(0);
    await this.store.removeConnections(unremoved).catch((error) => {
      this.#unremoved.push(...unremoved);
      throw error;
    });
    this.#round = (this.#round + 1) % this.rounds;
    const members = [...this.#members.values()];
    await this.#keep(members.filter(({ turn }) => turn === this.#round));
    await Promise.all([...this.#unsaved].map((member) => this.#saveSession(member)));
  }

  /** Writes everything again, for a Redis that came back without it. */
  async restoreAll(): Promise<void> {
    await this.#keep([...this.#members.values()]);
    for (const id of this.#members.keys()) await this.save(id);
  }

  async #keep(members: Member[]): Promise<void> {
    await this.#inPages(members, async (page) => {
      await this.store.keepConnections(page.map((member) => this.#record(member)));
      await this.store.noteProgress(this.#progress(page), false);
      const audience = new Map<string, Set<string>>();
      for (const { listening } of page) {
        if (!listening) continue;
        const { connection } = listening;
        const projects = audience.get(connection.userId) ?? new Set();
        for (const project of connection.projects) projects.add(project);
        audience.set(connection.userId, projects);
      }
      await this.store.keepAudience(audience);
    });
  }

  async #inPages(members: Member[], write: (page: Member[]) => Promise<void>): Promise<void> {
    for (let start = 0; start < members.length; start += PAGE) {
      // Without those that left while the page before was written: their records are gone.
      const page = members.slice(start, start + PAGE).filter(({ visit }) => this.#members.has(visit.id));
      if (page.length > 0) await write(page);
    }
  }

  #progress(members: Member[]) {
    return members.flatMap(({ listening }) => {
      if (listening?.pid === undefined) return [];
      const { pid, connection } = listening;
      return {
        pid,
        connection_id: connection.id,
        last_sent: connection.lastSent,
        as_of: this.positionOf(connection),
      };
    });
  }

  #record({ visit, listening }: Member): ConnectionRecord {
    const { ip, encoding, filters } = visit.visitor;
    return {
      connection_id: visit.id,
      user_id: visit.userId,
      connected_at: visit.connectedAt.toISOString(),
      last_heartbeat: visit.pulse.answeredAt.toISOString(),
      ip,
      transport: visit.connection.transport.name,
      encoding,
      filters: listening?.connection.filters ?? filters,
      last_sequence_id: listening?.connection.lastSent ?? SEQUENCE_START,
    };
  }
}
