import { setTimeout as pause } from "node:timers/promises";

/** One connection's place in the cluster. */
export interface Slot {
  connectionId: string;
  userId: string;
  /** What the limit per address counts as one. */
  address: string;
}

/** Why there is no place. `silent`: so many of the user's places were not renewed since the time that was given. */
export type Shortage =
  | { code: "CLUSTER_FULL" }
  | { code: "IP_RATE_LIMITED"; retryAfterMs: number }
  | { code: "USER_CONNECTION_LIMIT"; silent: number; now: number };

/** The places of all nodes. Each call answers in time or throws. */
export interface SlotTable {
  look(address: string): Promise<Shortage | undefined>;
  take(slot: Slot, silentSince?: number, takeOver?: boolean): Promise<Shortage | { former: string }>;
  renew(slots: Slot[]): Promise<void>;
  release(slot: Slot, neverOpened?: boolean): Promise<void>;
}

/** The connection that has a place. */
export interface Holder {
  /** Resolves to whether its client answers a ping within so many ms. */
  answers(withinMs: number): Promise<boolean>;
  /** Ends it as a transport close: its client, if there is one, comes back. */
  close(): void;
}

export interface SlotsOptions {
  table: SlotTable;
  /** Tells every node, this one too: call the roll of this user, or close the connection whose place was taken over. */
  publish(notice: SlotNotice): Promise<void>;
  onError(error: unknown): void;
}

export type SlotNotice = { call: string } | { taken: string };

/** How long a client has to answer when its user has no place left for another connection. */
const ANSWER_MS = 1000;
const LOOK_MS = 100;
/** A connection this young is taken to be there: it may still be on its way in. */
const YOUNG_MS = 10_000;
/** So many leases are renewed at once: others wait for Redis for a few milliseconds at most. */
const PAGE = 100;

/**
 * The places that this node's connections hold. Where a user has none left, the roll is called: whoever does not answer,
 * because its node is dead or its client went into a tunnel, gives its place to the one who stands at the door. So a
 * client that comes back finds its own place, whatever held it, and nobody gets more places than there are.
 */
export class Slots {
  readonly #held = new Map<string, { slot: Slot; since: number; holder?: Holder }>();
  /** By user: a roll that was called by this node a moment ago. */
  readonly #calls = new Map<string, { since: number; until: number }>();
  /** Users whose roll is being called: only who answers is renewed. */
  readonly #answering = new Set<string>();
  readonly #leaving = new Set<Promise<void>>();

  constructor(private readonly options: SlotsOptions) {}

  /** @throws what the table throws */
  look(address: string): Promise<Shortage | undefined> {
    return this.options.table.look(address);
  }

  /** @throws what the table throws */
  async take(slot: Slot): Promise<Shortage | undefined> {
    let answer = await this.options.table.take(slot);
    if ("code" in answer && answer.code === "USER_CONNECTION_LIMIT")
      answer = await this.#takeSilent(slot, answer.now);
    if ("code" in answer) return answer;
    this.#held.set(slot.connectionId, { slot, since: performance.now() });
    if (answer.former !== "") await this.options.publish({ taken: answer.former });
    return undefined;
  }

  /** From now on `holder` has the place, until {@link release}. */
  opened(connectionId: string, holder: Holder): void {
    const held = this.#held.get(connectionId);
    if (held) held.holder = holder;
  }

  /** The client came back with another connection: this one, wherever it is, ends, and its place is free. */
  async replace(former: string, userId: string): Promise<void> {
    await this.options.table.release({ connectionId: former, userId, address: "" });
    await this.options.publish({ taken: former });
  }

  /** Where Redis is away the lease ends by itself. */
  release(connectionId: string): void {
    const held = this.#held.get(connectionId);
    if (!held) return;
    this.#held.delete(connectionId);
    const leaving = this.options.table
      .release(held.slot, held.holder === undefined)
      .catch(this.options.onError)
      .finally(() => this.#leaving.delete(leaving));
    this.#leaving.add(leaving);
  }

  /** Resolves when what was released is released. */
  async emptied(): Promise<void> {
    await Promise.all(this.#leaving);
  }

  /** One round of the heartbeat. */
  async renewAll(): Promise<void> {
    const all = [...this.#held.keys()];
    for (let start = 0; start < all.length; start += PAGE) {
      const page = all.slice(start, start + PAGE).flatMap((id) => this.#held.get(id)?.slot ?? []);
      await this.options.table.renew(page.filter(({ userId }) => !this.#answering.has(userId)));
    }
  }

  notice(notice: SlotNotice): void {
    if ("taken" in notice) this.#held.get(notice.taken)?.holder?.close();
    else void this.#answer(notice.call).catch(this.options.onError);
  }

  async #takeSilent(slot: Slot, now: number) {
    const { since, until } = await this.#call(slot.userId, now);
    for (;;) {
      await pause(LOOK_MS);
      const over = performance.now() >= until;
      const answer = await this.options.table.take(slot, since, over);
      const full = "code" in answer && answer.code === "USER_CONNECTION_LIMIT";
      if (!full || over || answer.silent === 0) return answer;
    }
  }

  /** Many may stand at the door for one user: they share a call. */
  async #call(userId: string, now: number): Promise<{ since: number; until: number }> {
    const known = this.#calls.get(userId);
    if (known) return known;
    const call = { since: now, until: performance.now() + ANSWER_MS };
    this.#calls.set(userId, call);
    setTimeout(() => this.#calls.delete(userId), 2 * ANSWER_MS).unref();
    await this.options.publish({ call: userId });
    return call;
  }

  /** Renews the places of those who answer, and leaves the others alone. */
  async #answer(userId: string): Promise<void> {
    const own = [...this.#held.values()].filter(({ slot }) => slot.userId === userId);
    if (own.length === 0 || this.#answering.has(userId)) return;
    this.#answering.add(userId);
    try {
      const isYoung = ({ since }: { since: number }) => performance.now() - since < YOUNG_MS;
      await this.options.table.renew(own.filter(isYoung).map(({ slot }) => slot));
      const asked = own.filter((one) => !isYoung(one));
      await Promise.all(
        asked.map(async ({ slot, holder }) => {
          if ((await holder?.answers(ANSWER_MS)) && this.#held.has(slot.connectionId))
            await this.options.table.renew([slot]);
        }),
      );
    } finally {
      this.#answering.delete(userId);
    }
  }
}
