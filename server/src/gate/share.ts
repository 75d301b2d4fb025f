// Long: one algorithm with one state. What a node may send, asks for and gives away are the same few numbers.
import { setTimeout as pause } from "node:timers/promises";
import { SlidingWindow } from "./window.js";

/** One that waits for its turn to send one message under the cluster's limit. */
export interface Waiter {
  /**
   * It may send one message now, without `take()`. `sent`: it did, and waits no more; `again`: it did, and waits for
   * another turn; `unused`: it had nothing to send, and waits no more. One that throws counts as `sent`.
   */
  turn(): "sent" | "again" | "unused";
}

/** What a node says when it asks for its share: messages in a window of one second, and connections. */
export interface Report {
  limit: number;
  /** The node may have as much as this in its window until it has the answer. */
  held: number;
  used: number;
  /** The most connections that waited at once, of late. */
  waiting: number;
  connections: number;
  /** How many nodes there were at the last answer. */
  nodes: number;
}

export interface ShareOptions {
  /** Messages in any second over the whole cluster; 0: no limit. */
  limit: number;
  /**
   * Asks for the share and renews its lease for {@link LEASE_MS}. What is granted to all nodes together stays within the
   * limit, and at least `held` stays granted to this one. Rejects within about a second when there is no answer.
   */
  lease(report: Report): Promise<{ share: number; nodes: number }>;
  /** Nothing of this node is in the window any more. */
  giveBack(): Promise<void>;
  connections(): number;
  /** Monotonic (ms). */
  now?(): number;
  /** Once per outage, and for a waiter that throws. */
  onError?(error: unknown): void;
}

/** How long others leave this node's share alone after a report. */
const LEASE_MS = 2000;
/** How long it spends on it: the last message must have left the window when the lease ends; and a little for clocks. */
const SPEND_MS = 900;
const REPORT_MS = 100;
/** Between two reports while somebody waits. */
const SOON_MS = 20;
/** Ticks of {@link REPORT_MS} without any answer after which Redis counts as away: a loop that stood still has had none. */
const PATIENCE = 5;
/** How long it is remembered how many waited: about as long as what was used. */
const PEAK_MS = 500;
/** Turns are given at most as often, and as long at a stretch: the node has other things to do. */
const PAUSE_MS = 2;
const SLICE_MS = 8;

/** No lease. */
const NONE = Number.NEGATIVE_INFINITY;
/** No lease, and none to wait for. */
const ALONE = Number.POSITIVE_INFINITY;

/**
 * This node's share of the cluster's limit, and the line of those who wait for it.
 *
 * In any second all nodes together send at most the limit, because at every moment
 * 1. what Redis has granted sums to the limit at most (one script decides), and
 * 2. what a node has in its window of one second is at most what it is granted there.
 *
 * The second holds without waiting for answers: the node says what it *holds*, the greater of what is in its window and
 * what it may fill it to, and Redis never grants less than that. An answer below it is only a request: the node keeps to
 * it at once, and what it holds less by its next report is given to others then. So nothing the node does while a call
 * is under way, or gets lost, can exceed its grant; and a grant ends only when the last message under it left the window.
 *
 * Without a lease nothing is sent until the answer, about a millisecond. Only when Redis is away does the node go on
 * alone, with the limit divided by the nodes that were last there: with no more than it had at first, and with the whole
 * of that part when the leases of all others have ended too (if all had time to learn how many they are).
 */
export class Share {
  readonly #options: ShareOptions;
  readonly #limit: number;
  readonly #now: () => number;
  readonly #window = new SlidingWindow();
  readonly #line = new Set<Waiter>();
  #share = 0;
  /** When it has to stop spending (ms). */
  #until = NONE;
  #nodes = 1;
  /** Since when it knows of so many (ms), and whether the others know it too. */
  #nodesSince: number | undefined;
  #agreed = false;
  /** Redis may know this node. */
  #known = false;

  #call: Promise<void> | undefined;
  #asked = Number.NEGATIVE_INFINITY;
  /** Ticks since the last answer. */
  #unanswered = 0;
  #lastError: unknown;
  #awaySince: number | undefined;
  #stopped = false;

  #peak = 0;
  #peakBefore = 0;
  #peakSince = 0;

  #clock: NodeJS.Timeout | undefined;
  #soon: NodeJS.Timeout | undefined;
  #turns: NodeJS.Timeout | undefined;

  constructor(options: ShareOptions) {
    this.#options = options;
    this.#limit = options.limit;
    this.#now = options.now ?? (() => performance.now());
    if (this.#limit === 0) this.#use(Number.POSITIVE_INFINITY, ALONE);
  }

  start(): void {
    if (this.#limit === 0) return;
    this.#clock = setInterval(() => this.#tick(), REPORT_MS).unref();
    this.#tick();
  }

  /** Nobody gets a turn any more. Resolves when nothing of this node is in the window, and its share is given back. */
  async stop(): Promise<void> {
    this.#stopped = true;
    clearInterval(this.#clock);
    clearTimeout(this.#soon);
    clearTimeout(this.#turns);
    this.#line.clear();
    this.#use(0, NONE);
    await this.#call;
    if (!this.#known) return;
    for (let now = this.#now(); this.#window.count(now) > 0; now = this.#now()) {
      await pause(Math.ceil(this.#window.roomAt(now, 1) - now));
    }
    await this.#options.giveBack().catch((error: unknown) => this.#options.onError?.(error));
  }

  /**
   * Takes one message's worth. False when the share is spent, or others wait before: then {@link wait}.
   * @param now the moment at which it is sent (ms): with an older one it would leave the window too early
   */
  take(now: number): boolean {
    if (this.#limit === 0) return true;
    return this.#line.size === 0 && this.#spend(now);
  }

  /** A connection has come: where there is no lease, one is asked for before the first message needs it. */
  arrive(): void {
    if (this.#now() >= this.#until) this.#askSoon();
  }

  /** First come, first served; each turn is one message. Waiting twice counts once. */
  wait(waiter: Waiter): void {
    if (this.#stopped) return;
    this.#line.add(waiter);
    if (this.#line.size > this.#peak) this.#peak = this.#line.size;
    if (!this.#turns) this.#arm();
    this.#askSoon();
  }

  /** It waits no more, whatever it answers if it has its turn just now. */
  leave(waiter: Waiter): void {
    this.#line.delete(waiter);
  }

  #spend(now: number): boolean {
    return now < this.#until && this.#window.take(now, this.#share);
  }

  #serve(): void {
    const began = this.#now();
    let now = began;
    for (const waiter of this.#line) {
      if (now - began > SLICE_MS || !this.#spend(now)) break;
      this.#giveTurn(waiter, now);
      now = this.#now();
    }
    this.#arm();
  }

  #giveTurn(waiter: Waiter, now: number): void {
    let outcome: ReturnType<Waiter["turn"]> = "sent";
    try {
      outcome = waiter.turn();
    } catch (error) {
      this.#options.onError?.(error);
    }
    if (outcome === "unused") this.#window.giveBack(now);
    const stays = this.#line.delete(waiter) && outcome === "again";
    if (stays) this.#line.add(waiter);
  }

  /** The next turns: when there is room. Without a lease, the answer brings them. */
  #arm(): void {
    clearTimeout(this.#turns);
    this.#turns = undefined;
    const now = this.#now();
    if (this.#line.size === 0 || now >= this.#until) return;
    const at = this.#window.roomAt(now, this.#share);
    if (at === Number.POSITIVE_INFINITY) return;
    this.#turns = setTimeout(() => this.#serve(), Math.max(PAUSE_MS, at - now));
  }

  #tick(): void {
    const now = this.#now();
    const here = this.#options.connections() > 0 || this.#line.size > 0 || this.#window.count(now) > 0;
    if (!here && !this.#known) return;
    if (++this.#unanswered === PATIENCE) {
      this.#awaySince = now;
      this.#options.onError?.(this.#lastError ?? new Error("no answer about this node's share"));
    }
    if (this.#awaySince !== undefined) this.#goOnAlone(now, this.#awaySince);
    if (this.#call || now - this.#asked < SOON_MS) return;
    this.#begin(() => (here ? this.#ask() : this.#retire()));
  }

  #askSoon(): void {
    if (this.#call || this.#soon || this.#stopped || this.#awaySince !== undefined || this.#limit === 0)
      return;
    const wait = this.#asked + SOON_MS - this.#now();
    if (wait <= 0) return this.#begin(() => this.#ask());
    this.#soon = setTimeout(() => {
      this.#soon = undefined;
      if (!this.#call && this.#line.size > 0) this.#begin(() => this.#ask());
    }, wait);
  }

  /** One call at a time. */
  #begin(call: () => Promise<void>): void {
    this.#asked = this.#now();
    this.#call = call()
      .catch((error: unknown) => {
        this.#lastError = error;
      })
      .then(() => {
        this.#call = undefined;
        if (this.#stopped) return;
        this.#serve();
        if (this.#line.size > 0) this.#askSoon();
      });
  }

  async #ask(): Promise<void> {
    const asked = this.#asked;
    // A lease that has ended is nothing to hold: what is not spent yet may be others' by now.
    if (asked >= this.#until) this.#share = 0;
    const used = this.#window.count(asked);
    this.#known = true;
    const { share, nodes } = await this.#options.lease({
      limit: this.#limit,
      held: Math.max(used, this.#share),
      used,
      waiting: this.#waiting(asked),
      connections: this.#options.connections(),
      nodes: this.#nodes,
    });
    this.#unanswered = 0;
    if (this.#nodesSince === undefined || nodes > this.#nodes) this.#nodesSince = asked;
    this.#nodes = Math.max(1, nodes);
    this.#agreed = asked - this.#nodesSince >= SPEND_MS;
    // An answer that comes too late is no lease.
    if (this.#stopped || this.#now() >= asked + SPEND_MS) return;
    this.#use(share, asked + SPEND_MS);
  }

  /** A node without connections has no share. */
  async #retire(): Promise<void> {
    this.#share = 0;
    this.#until = NONE;
    await this.#options.giveBack();
    this.#unanswered = 0;
    this.#known = false;
    this.#nodesSince = undefined;
    this.#agreed = false;
    this.#use(0, NONE);
  }

  #use(share: number, until: number): void {
    this.#share = share;
    this.#until = until;
    this.#awaySince = undefined;
  }

  #waiting(now: number): number {
    const waiting = Math.max(this.#peak, this.#peakBefore);
    if (now - this.#peakSince >= PEAK_MS) {
      this.#peakBefore = this.#peak;
      this.#peak = this.#line.size;
      this.#peakSince = now;
    }
    return waiting;
  }

  #goOnAlone(now: number, since: number): void {
    if (now < this.#until && this.#until !== ALONE) return;
    const part = Math.floor(this.#limit / this.#nodes);
    // While a call is under way it keeps to what it said it holds.
    const grows = this.#agreed && !this.#call && now >= since + LEASE_MS;
    this.#share = grows ? part : Math.min(this.#share, part);
    this.#until = ALONE;
    this.#serve();
  }
}
