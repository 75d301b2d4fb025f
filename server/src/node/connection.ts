import {
  compareSequence,
  type Envelope,
  type EventType,
  type Filterable,
  type Filters,
  laterSequence,
  matches,
  type PayloadOf,
  SEQUENCE_START,
  type SequenceId,
} from "@agentwire/shared";

/** An event on its way to many connections: the gate makes it, once, and takes it again for each of them. */
export interface Outgoing {
  readonly envelope: Envelope;
  /** What filters and rights look at; made once, too. */
  readonly about: Filterable;
}

/** What a connection needs of the gate. */
export interface Exit {
  readonly open: boolean;
  send(event: Outgoing): void;
  say<E extends EventType>(event_type: E, payload: PayloadOf<E>): void;
  /** Resolves when what was sent has left, or the connection is gone. */
  writable(): Promise<void>;
}

/**
 * - `joining`: history is being read; live events are held back, in order
 * - `live`: events go out as they come
 */
type Phase = { name: "joining"; held: Outgoing[]; again: boolean } | { name: "live" };

/** More than this is not held back in memory: the join reads it from Redis instead. */
const MAX_HELD = 2000;

/** One viewer: what it may see, what it wants, and how far it has come. */
export class Connection {
  #phase: Phase = { name: "joining", held: [], again: false };
  /** Every event up to here was sent, or was not for this connection. */
  position: SequenceId;
  /** The last `log` event that was sent. */
  lastSent: SequenceId = SEQUENCE_START;

  constructor(
    readonly id: string,
    readonly userId: string,
    readonly projects: ReadonlySet<string>,
    public filters: Filters,
    /** The history that `position` belongs to. */
    public epoch: string,
    position: SequenceId,
    readonly exit: Exit,
  ) {
    this.position = position;
  }

  get live(): boolean {
    return this.#phase.name === "live";
  }

  /** Rights first: rooms say who might hear an event, never who may. */
  wants(event: Filterable): boolean {
    return this.projects.has(event.project_id) && matches(this.filters, event);
  }

  /** Takes an event of one of its rooms. */
  hear(event: Outgoing): void {
    const phase = this.#phase;
    if (phase.name === "live") this.pass(event);
    else if (phase.held.length < MAX_HELD) phase.held.push(event);
    else this.fallBehind(this.position);
  }

  /** Sends an event if it is new here and wanted. */
  pass(event: Outgoing): void {
    const { sequence_id } = event.envelope;
    if (sequence_id === undefined || compareSequence(sequence_id, this.position) <= 0) return;
    this.position = sequence_id;
    if (!this.wants(event.about)) return;
    this.lastSent = sequence_id;
    this.exit.send(event);
  }

  /**
   * Live delivery has a hole after `at`: from now on events are held back until a join has filled it.
   * @returns whether a join must be started; one that is under way notices by itself
   */
  fallBehind(at: SequenceId): boolean {
    const phase = this.#phase;
    if (phase.name === "joining") {
      phase.held = [];
      phase.again = true;
      return false;
    }
    this.position = laterSequence(this.position, at);
    this.#phase = { name: "joining", held: [], again: false };
    return true;
  }

  /**
   * Ends a join: sends what was held back, and is live.
   * @returns false when live delivery had another hole meanwhile: history must be read again first
   */
  goLive(): boolean {
    const phase = this.#phase;
    if (phase.name === "live") return true;
    if (phase.again) {
      phase.again = false;
      return false;
    }
    for (const event of phase.held) this.pass(event);
    this.#phase = { name: "live" };
    return true;
  }
}
