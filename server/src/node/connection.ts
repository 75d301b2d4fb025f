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
  send(event: E, before: SequenceId): void;
  overtake(event: E): void;
  /** An event that is not of the log, and has no place in its order. */
  show(event: E): void;
  replay(event: E): void;
  refill(event: E, pace: Pace): void;
  miss(event: E): void;
  announceMissed(): void;
  say<T extends EventType>(event_type: T, payload: PayloadOf<T>): void;
  /** Resolves when what was sent has left, or the connection is gone. */
  drained(): Promise<void>;
  /** Calls `listener` when an event was dropped: nothing of the log after `at` leaves until it is replayed. */
  onBehind(listener: (at: SequenceId, reason: string) => void): void;
  /** Calls `listener` when a `state` event was dropped and no newer one of its task waits. */
  onStale(listener: (event: E) => void): void;
  /** Forgets what waits and may not be sent any more. */
  withdraw(maySend: (event: E) => boolean): void;
}

/**
 * - `joining`: history is being read; live events are held back, in order
 * - `live`: events go out as they come
 *
 * `dropped`: the gate had to drop something, which is why history is read. `hole`: the node itself missed something.
 */
type Phase = { held: Outgoing[]; again: boolean; hole: boolean; dropped: Pace | undefined } | typeof LIVE;
const LIVE = "live";

/** More than this is not held back in memory: the join reads it from Redis instead. */
export const MAX_HELD = 100;
/** Of a connection that is behind: it may be slow, and stay so for long. */
export const MAX_HELD_BEHIND = 25;

const letsAllPass = (filters: Filters): boolean =>
  Object.values(filters).every((wanted) => wanted.length === 0);

/** One viewer: what it may see, what it wants, and how far it has come. */
export class Connection {
  #projects: ReadonlySet<string>;
  #filters: Filters;
  /** Filters that were in force up to a place which was not sent yet; the oldest first. */
  #former: { upTo: SequenceId; filters: Filters }[] = [];
  #wantsAll: boolean;
  #seen: string | undefined;
  #phase: Phase = { held: [], again: false, hole: false, dropped: undefined };
  /**
   * Every event up to here was handed to the gate, or was not for this connection. Of one that is live it is where it
   * became so: it has everything that the node has handled.
   */
  position: SequenceId;
  /** The position may be ahead of what the node has handled. */
  #ahead = true;
  /** The last event of the log that was handed to the gate: who has an older one may not have all before this. */
  lastSent: SequenceId = SEQUENCE_START;
  /** Called when history must be read to bring what the gate dropped. */
  onBehind: () => void = () => {};
  /** Called when the newest state of a task did not reach the client. */
  onStale: (event: Outgoing) => void = () => {};

  constructor(
    readonly id: string,
    readonly userId: string,
    projects: ReadonlySet<string>,
    filters: Filters,
    /** The history that `position` belongs to. */
    public epoch: string,
    position: SequenceId,
    readonly exit: Exit,
  ) {
    this.position = position;
    this.#projects = projects;
    this.#filters = filters;
    this.#wantsAll = letsAllPass(filters);
    exit.onStale((event) => this.onStale(event));
    exit.onBehind((at, reason) => this.#dropped(at, reason === "backpressure" ? "free" : "limited"));
  }

  get projects(): ReadonlySet<string> {
    return this.#projects;
  }

  /** What was not sent yet is judged by them, too. */
  set projects(projects: ReadonlySet<string>) {
    this.#projects = projects;
    this.#seen = undefined;
    this.exit.withdraw(({ about }) => this.#sees(about.project_id));
  }

  get filters(): Filters {
    return this.#filters;
  }

  /** From now on: what was held back for history to bring is judged by them, too. */
  set filters(filters: Filters) {
    this.#filters = filters;
    this.#wantsAll = letsAllPass(filters);
  }

  /** From this place on. What was dropped before it, or may be still, comes by the filters of then. */
  filterAfter(place: SequenceId, filters: Filters): void {
    const due = this.refill !== undefined || this.exit.waiting > 0;
    this.#former = due ? [...this.#former, { upTo: place, filters: this.#filters }] : [];
    this.filters = filters;
  }

  get live(): boolean {
    return this.#phase === LIVE;
  }

  /** How what follows from history is paced; nothing where it does not follow because something was dropped. */
  get refill(): Pace | undefined {
    return this.#phase !== LIVE ? this.#phase.dropped : undefined;
  }

  /** Whether history holds what this node does not hear. */
  get hasHole(): boolean {
    return this.#phase !== LIVE && this.#phase.hole;
  }

  /** Rights first: rooms say who might hear an event, never who may. */
  wants(event: Filterable, id?: SequenceId): boolean {
    if (!this.#sees(event.project_id)) return false;
    if (this.#former.length > 0 && id !== undefined) {
      const former = this.#former.find(({ upTo }) => compareSequence(id, upTo) <= 0);
      if (former) return matches(former.filters, event);
    }
    return this.#wantsAll || matches(this.#filters, event);
  }

  /**
   * Takes an event of one of its rooms.
   * @param prev the event before it in the log
   */
  hear(event: Outgoing, prev: SequenceId): void {
    const phase = this.#phase;
    if (phase === LIVE) {
      // What a join has read ahead of the node comes again now; from there on each event is new.
      if (this.#ahead && !this.#isNew(event)) return;
      this.#ahead = false;
      if (!this.wants(event.about)) return;
      this.lastSent = event.envelope.sequence_id as SequenceId;
      this.exit.send(event, prev);
      return;
    }
    // Its place in the log comes later, with the others; that it happened is told at once.
    if (phase.dropped && event.urgent && this.#isNew(event) && this.wants(event.about))
      this.exit.overtake(event);
    const most = phase.dropped ? MAX_HELD_BEHIND : MAX_HELD;
    if (!phase.again && phase.held.length < most) phase.held.push(event);
    else {
      this.fallBehind(this.position);
      this.#miss(event);
    }
  }

  /** Takes how far a task is. It has no place in the log: whatever is being read, it goes out as it comes. */
  show(event: Outgoing): void {
    if (this.wants(event.about)) this.exit.show(event);
  }

  /** Sends an event from history if it is new here and wanted. */
  pass(event: Outgoing): void {
    if (!this.#isNew(event)) return;
    this.position = event.envelope.sequence_id as SequenceId;
    if (!this.wants(event.about, this.position)) return;
    this.lastSent = this.position;
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
    if (phase !== LIVE) {
      const { held } = phase;
      phase.held = [];
      phase.again = true;
      for (const event of held) this.#miss(event);
      return false;
    }
    this.position = laterSequence(this.position, at);
    this.#phase = { held: [], again: false, hole: false, dropped: undefined };
    return true;
  }

  /** As {@link fallBehind}, because the node itself missed something. */
  missedLive(at: SequenceId): boolean {
    const starts = this.fallBehind(at);
    if (this.#phase !== LIVE) this.#phase.hole = true;
    return starts;
  }

  /** History is read from here on: it brings what was held back until now. */
  startRead(): void {
    this.fallBehind(this.position);
    if (this.#phase !== LIVE) this.#phase.again = false;
  }

  /**
   * Ends a join: sends what was held back, and is live.
   * @returns false when live delivery had another hole meanwhile: history must be read again first
   */
  goLive(): boolean {
    const phase = this.#phase;
    if (phase === LIVE) return true;
    if (phase.again) {
      phase.again = false;
      return false;
    }
    for (const event of phase.held) this.pass(event);
    this.#phase = LIVE;
    this.#ahead = true;
    if (this.exit.waiting === 0) this.#former = [];
    return true;
  }

  /** The project that was asked for last is mostly the next one, too. */
  #sees(project: string): boolean {
    if (project === this.#seen) return true;
    if (!this.#projects.has(project)) return false;
    this.#seen = project;
    return true;
  }

  #isNew({ envelope: { sequence_id } }: Outgoing): boolean {
    return sequence_id !== undefined && compareSequence(sequence_id, this.position) > 0;
  }

  /** What the gate dropped was announced; so is what is not sent because of that. */
  #miss(event: Outgoing): void {
    if (
      this.refill &&
      !event.urgent &&
      this.#isNew(event) &&
      this.wants(event.about, event.envelope.sequence_id)
    )
      this.exit.miss(event);
  }

  #dropped(at: SequenceId, pace: Pace): void {
    const phase = this.#phase;
    if (phase !== LIVE) {
      this.position = earlierSequence(this.position, at);
      this.fallBehind(this.position);
      // Once over a limit, the refill keeps to it.
      phase.dropped = phase.dropped === "limited" ? "limited" : pace;
      return;
    }
    this.position = laterSequence(this.position, at);
    // Nothing is held back before history is read: that brings it.
    this.#phase = { held: [], again: true, hole: false, dropped: pace };
    this.onBehind();
  }
}
