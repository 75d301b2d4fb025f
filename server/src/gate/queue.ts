import type { PayloadOf, SequenceId } from "@agentwire/shared";
import type { Frame } from "./frame.js";
import { addTo, Loss, type Reason } from "./loss.js";

/**
 * - `live`: counts against the limits, and may be dropped
 * - `limited`: of a refill; counts against the rate limits, and is not dropped: it was already
 * - `free`: counts against nothing, and is not dropped
 */
export type Terms = "live" | "limited" | "free";

/** A message that waits. */
export interface Waiting {
  readonly frame: Frame;
  readonly terms: Terms;
  /** Its place among all that came. */
  readonly arrival: number;
  /** Whether it comes in the order of the log: no longer, when one before it is dropped. */
  ordered: boolean;
  readonly bytes: number;
  /** When it began to wait, in ms of a monotonic clock. */
  readonly since: number;
  /** Of a live `log` event: the connection's position before it. */
  readonly before?: SequenceId;
}

export interface Bounds {
  /** Messages. */
  depth: number;
  /** Bytes of all that waits. */
  bytes: number;
}

/** `merged`: a newer one of the same task takes its place. */
export type OnDropped = (message: Waiting, reason: Reason, merged: boolean) => void;

/** First what leaves first: what the server itself says, then the priorities. */
const TIERS = ["control", "CRITICAL", "HIGH", "NORMAL", "LOW"] as const;
const [CONTROL, CRITICAL, HIGH, NORMAL, LOW] = [0, 1, 2, 3, 4] as const;
type Tier = (Waiting | Loss)[];

/** What is replayed keeps the order of the log, whatever its priority: each message says that all before it was sent. */
function tierOf({ frame: { delivery, envelope }, terms }: Waiting): number {
  if (delivery === "control") return CONTROL;
  return delivery === "log" && terms !== "live" ? HIGH : TIERS.indexOf(envelope.priority);
}

const taskOf = ({ envelope }: Frame) => (envelope.payload as PayloadOf<"PROGRESS_UPDATE">).task_id;

/**
 * What waits for one connection: priorities first, and within one the order of publication. Of `state` there is one
 * message per task, the newest, in the place of the first that waits, so that a task that changes often does not always
 * go to the end of the line. What is dropped of `state` and `bytes` leaves a notice in its place; what is dropped of
 * `log` is told to `onDropped` only: it comes again.
 */
export class Queue {
  readonly #tiers: [Tier, Tier, Tier, Tier, Tier] = [[], [], [], [], []];
  /** Messages and notices. */
  #entries = 0;
  #live = 0;
  #bytes = 0;
  #output = 0;

  constructor(
    private readonly bounds: Bounds,
    private readonly onDropped: OnDropped,
  ) {}

  /** Messages that may be dropped. */
  get depth(): number {
    return this.#live;
  }

  get bytes(): number {
    return this.#bytes;
  }

  /** Of these, in terminal output. */
  get output(): number {
    return this.#output;
  }

  get empty(): boolean {
    return this.#entries === 0;
  }

  /** How much the server itself has said that was not taken yet. */
  get said(): number {
    return this.#tiers[CONTROL].length;
  }

  /** Whether a message waits that came before this one. */
  holdsBefore(arrival: number): boolean {
    return this.#tiers.some((tier) =>
      tier.some((entry) => !(entry instanceof Loss) && entry.arrival < arrival),
    );
  }

  /** Since when the oldest waits that may expire. */
  get oldest(): number {
    const since = ([HIGH, LOW] as const).map((tier) => this.#tiers[tier].find(isLive)?.since);
    return Math.min(...since.map((time) => time ?? Number.POSITIVE_INFINITY));
  }

  /** Whether a `log` event waits that came before this one: who overtakes it must not say that all before it was sent. */
  holdsLogBefore(arrival: number): boolean {
    const [first] = this.#tiers[HIGH];
    return first !== undefined && !(first instanceof Loss) && first.arrival < arrival;
  }

  /**
   * What leaves next: a message, or a notice of what is missing in this place.
   * @param only nothing but bytes, and what is missing of them
   */
  front(only?: "bytes" | undefined): Waiting | Loss | undefined {
    if (this.empty) return undefined;
    // Nothing else is LOW.
    if (only) return this.#tiers[LOW][0];
    for (const tier of this.#tiers) if (tier.length > 0) return tier[0];
    return undefined;
  }

  /** Takes out what is in {@link front}. */
  shift(only?: "bytes" | undefined): Waiting | Loss | undefined {
    const entry = this.front(only);
    if (!entry) return undefined;
    this.#tiers.find(([first]) => first === entry)?.shift();
    if (entry instanceof Loss) this.#entries--;
    else this.#forget(entry);
    return entry;
  }

  /**
   * Takes a message in, and drops what must leave for it: the least important first, of `bytes` and `state` the oldest,
   * of `log` the newest.
   *
   * @returns false when it is the message itself that was dropped
   */
  add(message: Waiting, reason: Reason): boolean {
    const tier = tierOf(message);
    if (message.terms === "live" && tier !== CONTROL) {
      if (this.#merge(message, tier, reason)) return true;
      while (!this.#fits(message, tier)) if (!this.#makeRoom(message, tier, reason)) return false;
    }
    this.#remember(message);
    (this.#tiers[tier] as Tier).push(message);
    return true;
  }

  /**
   * Drops what has waited for the limits since before this time. A `log` event takes those behind it along: a
   * connection that is behind gets none before its refill. The newest of a task stays, however old it is.
   *
   * @returns whether there was something to drop
   */
  expire(before: number): boolean {
    const live = this.#live;
    const high = this.#tiers[HIGH];
    if ((high.find(isLive)?.since ?? before) < before) {
      this.#tiers[HIGH] = high.filter((entry) => !isLive(entry));
      for (const message of high.filter(isLive)) this.#drop(message, "expired", HIGH);
    }
    const low = this.#tiers[LOW];
    for (let oldest = low.find(isLive); oldest && oldest.since < before; oldest = low.find(isLive))
      this.#dropOldest(LOW, "expired");
    return this.#live < live;
  }

  /** Forgets every message but those that may stay, and what the server itself says. */
  keep(mayStay: (frame: Frame) => boolean): void {
    for (const [n, tier] of this.#tiers.entries()) {
      if (n === CONTROL) continue;
      this.#tiers[n] = tier.filter((entry) => {
        const stays = entry instanceof Loss || mayStay(entry.frame);
        if (!stays) this.#forget(entry);
        return stays;
      });
    }
  }

  /** A newer state takes the place of the one that waits, if that leaves the queue within its bounds. */
  #merge(message: Waiting, tier: number, reason: Reason): boolean {
    if (message.frame.delivery !== "state") return false;
    const entries = this.#tiers[tier] as Tier;
    const task = taskOf(message.frame);
    const { namespace, envelope } = message.frame;
    const at = entries.findIndex(
      (entry) =>
        isLive(entry) &&
        entry.frame.namespace === namespace &&
        entry.frame.envelope.event_type === envelope.event_type &&
        taskOf(entry.frame) === task,
    );
    if (at < 0) return false;
    const [former] = entries.splice(at, 1, message) as [Waiting];
    this.#remember(message);
    this.#drop(former, reason, tier, true);
    // A larger one in its place may be too much: then something else must go.
    while (this.#bytes > this.bounds.bytes && this.#live > 1 && this.#dropLeast(tier, reason));
    return true;
  }

  /** Where nothing waits any message fits. CRITICAL ones wait however many they are, within the bytes. */
  #fits({ bytes }: Waiting, tier: number): boolean {
    if (this.#live === 0) return true;
    if (tier > CRITICAL && this.#live >= this.bounds.depth) return false;
    return this.#bytes + bytes <= this.bounds.bytes;
  }

  /** Drops one message. False when it was the one that came. */
  #makeRoom(message: Waiting, tier: number, reason: Reason): boolean {
    if (this.#dropLeast(tier, reason)) return true;
    this.#lose(message, reason, tier, false);
    return false;
  }

  /** Drops the message that is least important, if it is no more important than this tier. */
  #dropLeast(tier: number, reason: Reason): boolean {
    for (const least of [LOW, NORMAL]) if (tier <= least && this.#dropOldest(least, reason)) return true;
    return tier === CRITICAL && this.#dropNewestLog(reason);
  }

  #dropOldest(tier: number, reason: Reason): boolean {
    const entries = this.#tiers[tier] as Tier;
    const at = entries.findIndex(isLive);
    if (at < 0) return false;
    const [oldest] = entries.splice(at, 1) as [Waiting];
    this.#drop(oldest, reason, tier);
    return true;
  }

  #dropNewestLog(reason: Reason): boolean {
    const newest = this.#tiers[HIGH].at(-1);
    if (!isLive(newest)) return false;
    this.#tiers[HIGH].pop();
    this.#drop(newest, reason, HIGH);
    return true;
  }

  /** One of the log before them is gone: they must not say that all before them was sent. */
  #disorder(arrival: number): void {
    for (const entry of this.#tiers[CRITICAL]) {
      if (isLive(entry) && entry.arrival > arrival) entry.ordered = false;
    }
  }

  /** It has left its tier already. */
  #drop(message: Waiting, reason: Reason, tier: number, merged = false): void {
    this.#forget(message);
    this.#lose(message, reason, tier, merged);
  }

  #lose(message: Waiting, reason: Reason, tier: number, merged: boolean): void {
    this.onDropped(message, reason, merged);
    if (message.frame.delivery === "log") return this.#disorder(message.arrival);
    // The oldest go first, so what is missing stands before all that still waits.
    const entries = this.#tiers[tier] as Tier;
    const firstMessage = entries.findIndex((entry) => !(entry instanceof Loss));
    const losses = entries.splice(0, firstMessage < 0 ? entries.length : firstMessage) as Loss[];
    this.#entries -= losses.length;
    addTo(losses, message.frame, reason);
    this.#entries += losses.length;
    entries.unshift(...losses);
  }

  #remember({ terms, bytes, frame }: Waiting): void {
    this.#entries++;
    if (terms === "live") this.#live++;
    this.#bytes += bytes;
    if (frame.delivery === "bytes") this.#output += bytes;
  }

  #forget({ terms, bytes, frame }: Waiting): void {
    this.#entries--;
    if (terms === "live") this.#live--;
    this.#bytes -= bytes;
    if (frame.delivery === "bytes") this.#output -= bytes;
  }
}

function isLive(entry: Waiting | Loss | undefined): entry is Waiting {
  return entry !== undefined && !(entry instanceof Loss) && entry.terms === "live";
}
