import { setTimeout as pause } from "node:timers/promises";
import { networkOf } from "./address.js";

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
  /** Resolves to the connections that have no place any more. */
  renew(slots: Slot[]): Promise<string[]>;
  release(slot: Slot, neverOpened?: boolean): Promise<void>;
  /** Its client has another connection now; its node may be dead. */
  replace(connectionId: string, userId: string): Promise<void>;
  /** These were lost through no fault of their addresses: as many may come back. `diedAged`: came so long (ms) ago. */
  owe(lost: { connectionId: string; address: string; diedAged?: number }[]): Promise<void>;
}

/** The connection that has a place. */
export interface Holder {
  /** Resolves to whether its client answers a ping within so many ms. */
  answers(withinMs: number): Promise<boolean>;
  /** It has no place any more. Ends it as a transport close: its client, if there is one, comes back. */
  close(): void;
}

export interface SlotsOptions {
  table: SlotTable;
  /** Tells every node, this one too: call the roll of this user, or close the connection whose place was taken over. */
  publish(notice: SlotNotice): Promise<void>;
  onError(error: unknown): void;
  times?: SlotTimes;
}

export type SlotNotice = { call: string } | { taken: string };

/** In ms. */
export interface SlotTimes {
  /** How long a client has to answer when its user has no place left for another connection. */
  answer: number;
  /** Between two looks at who has answered. */
  look: number;
  /** A connection this young is taken to be there: it may still be on its way in. */
  young: number;
}

/** A roll that was called. */
interface Call {
  /** Whoever was not renewed since then (ms, the table's time) is silent, */
  since: number;
  /** after this (ms, monotonic). */
  until: number;
}

/** A place that this node took, and when (ms, monotonic); without a holder as long as its connection is not open. */
interface Held {
  slot: Slot;
  since: number;
  holder?: Holder;
}

const TIMES: SlotTimes = { answer: 1000, look: 100, young: 10_000 };
/** So many leases are renewed at once: others wait for Redis for a few milliseconds at most. */
const PAGE = 100;

/**
 * The places that this node's connections hold. Where a user has none left, the roll is called: whoever does not answer,
 * because its node is dead or its client went into a tunnel, gives its place to the one who stands at the door. So a
 * client that comes back finds its own place, whatever held it, and nobody gets more places than there are.
 */
export class Slots {
  readonly #held = new Map<string, Held>();
  /** By user: a roll that was called by this node a moment ago. */
  readonly #calls = new Map<string, Promise<Call>>();
  /** Users whose roll is being called, and how many times at once: only who answers is renewed. */
  readonly #answering = new Map<string, number>();
  readonly #leaving = new Set<Promise<void>>();

  readonly #times: SlotTimes;

  constructor(private readonly options: SlotsOptions) {
    this.#times = options.times ?? TIMES;
  }

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
    // A node that does not hear it learns it from the table.
    if (answer.former !== "")
      await this.options.publish({ taken: answer.former }).catch(this.options.onError);
    return undefined;
  }

  /** From now on `holder` has the place, until {@link release}. It may have been taken over on the way. */
  opened(connectionId: string, holder: Holder): void {
    const held = this.#held.get(connectionId);
    if (held) held.holder = holder;
    else holder.close();
  }

  /** The client came back with another connection: this one, wherever it is, ends, and its place is free. */
  async replace(former: string, userId: string): Promise<void> {
    await this.options.table.replace(former, userId);
    await this.options.publish({ taken: former });
  }

  /** Where Redis is away the lease ends by itself. */
  release(connectionId: string): void {
    this.#leave(connectionId, ({ slot, holder }) => this.options.table.release(slot, holder === undefined));
  }

  /** Its client was told to go elsewhere: it finds its place free, whatever it and its address have taken meanwhile. */
  vacate(connectionId: string): void {
    this.#leave(connectionId, async ({ slot }) => {
      await this.options.table.release(slot);
      await this.options.table.owe([slot]);
    });
  }

  /** Connections of dead nodes: whoever had them may come back. @throws what the table throws */
  async compensate(lost: { connectionId: string; ip: string; connectedAt: string }[]): Promise<void> {
    await this.options.table.owe(
      lost.map(({ connectionId, ip, connectedAt }) => ({
        connectionId,
        address: networkOf(ip),
        diedAged: Date.now() - Date.parse(connectedAt),
      })),
    );
  }

  #leave(connectionId: string, give: (held: Held) => Promise<void>): void {
    const held = this.#held.get(connectionId);
    if (!held) return;
    this.#held.delete(connectionId);
    const leaving = give(held)
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
      await this.#renew(page.filter(({ userId }) => !this.#answering.has(userId)));
    }
  }

  notice(notice: SlotNotice): void {
    if ("taken" in notice) this.#lose(notice.taken);
    else void this.#answer(notice.call).catch(this.options.onError);
  }

  async #renew(slots: Slot[]): Promise<void> {
    for (const id of await this.options.table.renew(slots)) this.#lose(id);
  }

  /** From now on nobody renews it. */
  #lose(connectionId: string): void {
    const holder = this.#held.get(connectionId)?.holder;
    this.release(connectionId);
    holder?.close();
  }

  async #takeSilent(slot: Slot, now: number) {
    const { since, until } = await this.#call(slot.userId, now);
    for (;;) {
      await pause(this.#times.look);
      const over = performance.now() >= until;
      const answer = await this.options.table.take(slot, since, over);
      const full = "code" in answer && answer.code === "USER_CONNECTION_LIMIT";
      if (!full || over || answer.silent === 0) return answer;
    }
  }

  /** Many may stand at the door for one user: they share a call. */
  #call(userId: string, now: number): Promise<Call> {
    const known = this.#calls.get(userId);
    if (known) return known;
    const { answer } = this.#times;
    const call = this.options
      .publish({ call: userId })
      .then(() => ({ since: now, until: performance.now() + answer }));
    const forget = () => this.#calls.delete(userId);
    this.#calls.set(userId, call);
    call.then(() => setTimeout(forget, 2 * answer).unref(), forget);
    return call;
  }

  /** Renews the places of those who answer, and leaves the others alone. */
  async #answer(userId: string): Promise<void> {
    const own = [...this.#held.values()].filter(({ slot }) => slot.userId === userId);
    if (own.length === 0) return;
    this.#answering.set(userId, (this.#answering.get(userId) ?? 0) + 1);
    try {
      const isYoung = ({ since }: { since: number }) => performance.now() - since < this.#times.young;
      await this.#renew(own.filter(isYoung).map(({ slot }) => slot));
      const asked = own.filter((one) => !isYoung(one));
      await Promise.all(
        asked.map(async ({ slot, holder }) => {
          if ((await holder?.answers(this.#times.answer)) && this.#held.has(slot.connectionId))
            await this.#renew([slot]);
        }),
      );
    } finally {
      const left = (this.#answering.get(userId) ?? 1) - 1;
      if (left > 0) this.#answering.set(userId, left);
      else this.#answering.delete(userId);
    }
  }
}
