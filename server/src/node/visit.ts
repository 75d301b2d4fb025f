import { setTimeout as pause } from "node:timers/promises";
import type { Code, EventType, Filters, PayloadOf, SequenceId } from "@agentwire/shared";

/** Who stands behind a connection, and what was asked for. The door decided it. */
export interface Visitor {
  connectionId: string;
  user: { id: string; claims: Readonly<Record<string, unknown>>; expiresAt: number };
  tokenDigest: string;
  projects: ReadonlySet<string>;
  filters: Filters;
  encoding: "json" | "messagepack";
  lastSequenceId?: SequenceId;
  epoch?: string;
  /** Whether the client takes part in resuming: it gets a `pid`, and offsets with its events. */
  resumes: boolean;
  ip: string;
}

/** Engine.IO's connection. */
export interface Transport {
  readonly transport: {
    readonly name: string;
    readonly writable?: boolean;
    prependOnceListener?(event: "ready", listener: () => void): unknown;
  };
  close(discard?: boolean): unknown;
}

/** Whether its client is there. */
export interface Pulse {
  /** When it last answered a ping, or came. */
  readonly answeredAt: Date;
  /** Pings now, and resolves to whether anything comes within so many ms. */
  answers(withinMs: number): Promise<boolean>;
}

/** A namespace that the client has joined. */
export interface Joined {
  say<E extends EventType>(event_type: E, payload: PayloadOf<E>): void;
  /** Resolves when what was said has left, or the connection is gone. */
  drained(): Promise<void>;
  /** The visitor's projects are others now. */
  onRights(projects: ReadonlySet<string>): void;
}

/** What was said has so long to leave before the connection is cut. */
const LAST_WORDS_MS = 1000;

/** One connection, from the door until it closes, whatever namespaces it has joined. */
export class Visit {
  readonly namespaces = new Set<Joined>();
  readonly connectedAt = new Date();
  #projects: ReadonlySet<string>;
  #ending = false;
  /** Where this node ended it: why. */
  endedBecause: Code | undefined;

  constructor(
    readonly visitor: Visitor,
    readonly connection: Transport,
    readonly pulse: Pulse,
  ) {
    this.#projects = visitor.projects;
  }

  get id(): string {
    return this.visitor.connectionId;
  }

  get userId(): string {
    return this.visitor.user.id;
  }

  /** The projects that it may see today. */
  get projects(): ReadonlySet<string> {
    return this.#projects;
  }

  /** Says it once in each namespace that the client has joined. */
  say<E extends EventType>(event_type: E, payload: PayloadOf<E>): void {
    for (const namespace of this.namespaces) namespace.say(event_type, payload);
  }

  /**
   * Gives it the rights of today.
   * @returns the projects that it may no longer see
   */
  renewRights(projects: ReadonlySet<string>): string[] {
    const former = this.#projects;
    const lost = [...former].filter((id) => !projects.has(id));
    if (lost.length === 0 && projects.size === former.size) return lost;
    this.#projects = projects;
    for (const namespace of this.namespaces) namespace.onRights(projects);
    if (lost.length > 0) this.say("ACCESS_REVOKED", { project_ids: lost });
    return lost;
  }

  /** Ends it as a transport close: the client comes back. What was said to it leaves first, if the client takes it. */
  end(because?: Code): void {
    if (this.#ending) return;
    this.#ending = true;
    this.endedBecause = because;
    const said = Promise.all([...this.namespaces].map((namespace) => namespace.drained()));
    void Promise.race([said, pause(LAST_WORDS_MS)])
      // A request that may never come.
      .then(() => Promise.race([this.#closeInTurn(), pause(LAST_WORDS_MS)]))
      .then(() => this.connection.close(true));
  }

  /**
   * A client that polls is told in the answer to its next request, before anything else takes it; closed without one, it
   * would find an unknown session, and take that for a fault.
   */
  async #closeInTurn(): Promise<void> {
    const { transport } = this.connection;
    if (transport.name !== "polling" || transport.writable || !transport.prependOnceListener) return;
    await new Promise<void>((resolve) => {
      transport.prependOnceListener?.("ready", () => {
        this.connection.close(true);
        resolve();
      });
    });
  }
}
