import {
  compareSequence,
  type Envelope,
  type EventType,
  earlierSequence,
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
  /** Does not wait for others. */
  readonly urgent: boolean;
}

/** How a refill is paced: by what the client takes, or by the limits that it fell behind for. */
export type Pace = "free" | "limited";

/** What a connection needs of the gate. */
export interface Exit<E extends Outgoing = Outgoing> {
  readonly open: boolean;
  /** Bytes that wait. */
  readonly waiting: number;
  /** @returns whether everything of the log before it leaves first, and it was not dropped */
  send(event: E, before: SequenceId): boolean;
  overtake(event: E): void;
  replay(event: E): void;
  refill(event: E, pace: Pace): void;
  miss(event: E): void;
  announceMissed(): void;
  say<T extends EventType>(event_type: T, payload: PayloadOf<T>): void;
  /** Resolves when what was sent has left, or the connection is gone. */
  drained(): Promise<void>;
  /** Calls `listener` when an event was dropped: nothing of the log after `at` leaves until it is replayed. */
  onBehind(listener: (at: SequenceId, reason: string) => void): void;
}

/**
 * - `joining`: history is being read; live events are held back, in order
 * - `live`: events go out as they come
 *
 * `dropped`: the gate had to drop something, which is why history is read.
 */
type Phase =
  | { name: "joining"; held: Outgoing[]; again: boolean; dropped: Pace | undefined }
  | { name: "live" };

/** More than this is not held back in memory: the join reads it from Redis instead. */
export const MAX_HELD = 500;

/** One viewer: what it may see, what it wants, and how far it has come. */
export class Connection {
  #phase: Phase = { name: "joining", held: [], again: false, dropped: undefined };
  /** Every event up to here was handed to the gate, or was not for this connection. */
  position: SequenceId;
  /** The last event of the log that was handed to the gate in its order. */
  lastSent: SequenceId = SEQUENCE_START;
  /** Called when history must be read to bring what the gate dropped. */
  onBehind: () => void = () => {};

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
    exit.onBehind((at, reason) => this.#dropped(at, reason === "backpressure" ? "free" : "limited"));
  }

  get live(): boolean {
    return this.#phase.name === "live";
  }

  /** How what follows from history is paced; nothing where it does not follow because something was dropped. */
  get refill(): Pace | undefined {
    return this.#phase.name === "joining" ? this.#phase.dropped : undefined;
  }

  /** Rights first: rooms say who might hear an event, never who may. */
  wants(event: Filterable): boolean {
    return this.projects.has(event.project_id) && matches(this.filters, event);
  }

  /**
   * Takes an event of one of its rooms.
   * @param prev the event before it in the log
   */
  hear(event: Outgoing, prev: SequenceId): void {
    const phase = this.#phase;
    if (phase.name === "live") {
      if (!this.#passes(event)) return;
      if (this.exit.send(event, prev)) this.lastSent = event.envelope.sequence_id as SequenceId;
    } else if (phase.dropped && event.urgent) {
      // Its place in the log comes later, with the others; that it happened is told at once.
      if (this.#isNew(event) && this.wants(event.about)) this.exit.overtake(event);
    } else if (!phase.again && phase.held.length < MAX_HELD) phase.held.push(event);
    else {
      this.fallBehind(this.position);
      this.#miss(event);
    }
  }

  /** Sends an event from history if it is new here and wanted. */
  pass(event: Outgoing): void {
    if (!this.#passes(event)) return;
    this.lastSent = event.envelope.sequence_id as SequenceId;
    const pace = this.refill;
    if (pace) this.exit.refill(event, pace);
    else this.exit.replay(event);
  }

  /**
   * Live delivery has a hole after `at`: from now on events are held back until a join has filled it.
   * @returns whether a join must be started; one that is under way notices by itself
   */
  fallBehind(at: SequenceId): boolean {
    const phase = this.#phase;
    if (phase.name === "joining") {
      const { held } = phase;
      phase.held = [];
      phase.again = true;
      for (const event of held) this.#miss(event);
      return false;
    }
    this.position = laterSequence(this.position, at);
    this.#phase = { name: "joining", held: [], again: false, dropped: undefined };
    return true;
  }

  /** History is read from here on: it brings what was held back until now. */
  startRead(): void {
    this.fallBehind(this.position);
    if (this.#phase.name === "joining") this.#phase.again = false;
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

  /** Moves the position on. @returns whether it is to be sent */
  #passes(event: Outgoing): boolean {
    if (!this.#isNew(event)) return false;
    this.position = event.envelope.sequence_id as SequenceId;
    return this.wants(event.about);
  }

  #isNew({ envelope: { sequence_id } }: Outgoing): boolean {
    return sequence_id !== undefined && compareSequence(sequence_id, this.position) > 0;
  }

  /** What the gate dropped was announced; so is what is not sent because of that. */
  #miss(event: Outgoing): void {
    if (this.refill && this.#isNew(event) && this.wants(event.about)) this.exit.miss(event);
  }

  #dropped(at: SequenceId, pace: Pace): void {
    const phase = this.#phase;
    if (phase.name === "joining") {
      this.position = earlierSequence(this.position, at);
      this.fallBehind(this.position);
      // Once over a limit, the refill keeps to it.
      phase.dropped = phase.dropped === "limited" ? "limited" : pace;
      return;
    }
    this.position = at;
    this.#phase = { name: "joining", held: [], again: false, dropped: pace };
    this.onBehind();
  }
}
