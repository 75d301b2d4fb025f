import { createTurns } from "./turns.js";
import type { Visit } from "./visit.js";

export interface RightsOptions {
  visits: Iterable<Visit>;
  /** @throws while the answer cannot be had */
  projectsOf(user: Visit["visitor"]["user"]): Promise<ReadonlySet<string>>;
  /** The rights of this visit are others now; `lost` are the projects that it may no longer see. */
  onChanged(visit: Visit, lost: string[]): void;
  onError(error: unknown): void;
}

/** Rights are read again after this, whether or not somebody said that they have changed. */
const AGE_MS = 60_000;
const TICK_MS = 500;
/** So many are read at once. */
const AT_ONCE = 4;

/**
 * Keeps the rights of connections as they are today. While they cannot be read the last answer counts, and is asked for
 * again in a moment.
 */
export class Rights {
  readonly #readAt = new WeakMap<Visit, number>();
  readonly #reading = new WeakSet<Visit>();
  readonly #inTurn = createTurns(AT_ONCE);
  #timer: NodeJS.Timeout | undefined;

  constructor(private readonly options: RightsOptions) {}

  start(): void {
    this.#timer = setInterval(() => this.#tick(), TICK_MS);
  }

  stop(): void {
    clearInterval(this.#timer);
  }

  /** The rights of this user have changed; of everybody, where no user is given. */
  changed(userId?: string): void {
    for (const visit of this.options.visits) {
      if (userId !== undefined && visit.userId !== userId) continue;
      // Also for one that is being read: what it will be told may be older than this.
      this.#readAt.set(visit, Number.NEGATIVE_INFINITY);
    }
    this.#tick();
  }

  #tick(): void {
    const now = performance.now();
    for (const visit of this.options.visits) {
      const readAt = this.#readAt.get(visit);
      // The door has read them just now.
      if (readAt === undefined) this.#readAt.set(visit, now);
      else if (now - readAt >= AGE_MS && !this.#reading.has(visit)) void this.#read(visit);
    }
  }

  async #read(visit: Visit): Promise<void> {
    this.#reading.add(visit);
    try {
      await this.#inTurn(async () => {
        this.#readAt.set(visit, performance.now());
        const before = visit.projects;
        const lost = visit.renewRights(await this.options.projectsOf(visit.visitor.user));
        if (visit.projects !== before) this.options.onChanged(visit, lost);
      });
    } catch (error) {
      this.#readAt.set(visit, Number.NEGATIVE_INFINITY);
      this.options.onError(error);
    } finally {
      this.#reading.delete(visit);
    }
  }
}
