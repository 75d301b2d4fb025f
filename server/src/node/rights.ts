import { createTurns } from "./turns.js";
import type { Visit } from "./visit.js";

export interface RightsOptions {
  visits: Iterable<Visit>;
  /** @throws while the answer cannot be had */
  projectsOf(user: Visit["visitor"]["user"]): Promise<ReadonlySet<string>>;
  /** The rights of this visit are others now; `lost` are the projects that it may no longer see. */
  onChanged(visit: Visit, lost: string[]): void;
  onError(error: unknown): void;
  times?: RightsTimes;
}

/** In ms. */
export interface RightsTimes {
  /** Rights are read again after this, whether or not somebody said that they have changed. */
  age: number;
  tick: number;
  /** From when the door reads rights until the connection is open, at most. */
  entry: number;
}

const TIMES: RightsTimes = { age: 60_000, tick: 500, entry: 10_000 };
const EVERYBODY = Symbol();
/** So many are read at once. */
const AT_ONCE = 4;

/**
 * Keeps the rights of connections as they are today. While they cannot be read the last answer counts, and is asked for
 * again in a moment.
 */
export class Rights {
  readonly #readAt = new WeakMap<Visit, number>();
  readonly #reading = new WeakSet<Visit>();
  /** Whose rights have changed within the time of an entry, and when: what the door read may be older. */
  readonly #changes = new Map<string | typeof EVERYBODY, number>();
  #failing = false;
  readonly #inTurn = createTurns(AT_ONCE);
  #timer: NodeJS.Timeout | undefined;

  readonly #times: RightsTimes;

  constructor(private readonly options: RightsOptions) {
    this.#times = options.times ?? TIMES;
  }

  start(): void {
    this.#timer = setInterval(() => this.#tick(), this.#times.tick);
  }

  stop(): void {
    clearInterval(this.#timer);
  }

  /** The rights of this user have changed; of everybody, where no user is given. */
  changed(userId?: string): void {
    this.#changes.set(userId ?? EVERYBODY, performance.now());
    for (const visit of this.options.visits) {
      if (userId !== undefined && visit.userId !== userId) continue;
      // Also for one that is being read: what it will be told may be older than this.
      this.#readAt.set(visit, Number.NEGATIVE_INFINITY);
    }
    this.#tick();
  }

  #tick(): void {
    const now = performance.now();
    for (const [who, at] of this.#changes) if (now - at >= this.#times.entry) this.#changes.delete(who);
    for (const visit of this.options.visits) {
      const readAt = this.#readAt.get(visit) ?? this.#readByDoor(visit, now);
      this.#readAt.set(visit, readAt);
      if (now - readAt >= this.#times.age && !this.#reading.has(visit)) void this.#read(visit);
    }
  }

  /** Just now; but that may have been just before they changed. */
  #readByDoor({ userId }: Visit, now: number): number {
    const hasChanged = this.#changes.has(userId) || this.#changes.has(EVERYBODY);
    return hasChanged ? Number.NEGATIVE_INFINITY : now;
  }

  async #read(visit: Visit): Promise<void> {
    this.#reading.add(visit);
    try {
      await this.#inTurn(async () => {
        this.#readAt.set(visit, performance.now());
        const before = visit.projects;
        const lost = visit.renewRights(await this.options.projectsOf(visit.visitor.user));
        this.#failing = false;
        if (visit.projects !== before) this.options.onChanged(visit, lost);
      });
    } catch (error) {
      this.#readAt.set(visit, Number.NEGATIVE_INFINITY);
      // One line for an outage, not one for each connection each time.
      if (!this.#failing) this.options.onError(error);
      this.#failing = true;
    } finally {
      this.#reading.delete(visit);
    }
  }
}
