import { setTimeout as pause } from "node:timers/promises";
import { AgentwireError } from "@agentwire/shared";
import type { Appended, RedisKeys } from "@agentwire/shared/redis";
import type { Redis } from "ioredis";
import type { Logger } from "pino";
import type { BusLease } from "./bus-lease.js";
import { type BusMessage, parseBusMessage, sourceOf } from "./bus-message.js";

type Foreign = Extract<BusMessage, { name: "foreign" }>;

/** A foreign message, until its append is announced. */
interface Waiting {
  message: Foreign;
  at: number;
  /** This node appended it, and has still to hear of it. */
  appended: boolean;
}

export interface BusOptions {
  subscriber: Redis;
  keys: RedisKeys;
  lease: BusLease;
  maxBytes: number;
  /** The event ids in the log since then (ms). */
  appendedSince(ms: number): Promise<string[]>;
  /** Returns nothing when this node does not hold the lease. */
  append(change: Foreign["change"]): Promise<Appended | undefined>;
  logger: Logger;
}

const TICK_MS = 250;
/** How long a node that was deaf leaves the lease to one that was not. */
const YIELD_MS = 2500;
/** How long a subscriber's answer may take. */
const HEAR_MS = 1000;
/** By then whoever holds the lease has taken it in, or refused it as a repeat. */
const FORGET_MS = 15_000;

/**
 * The existing event bus, inwards: a plain PUBLISH from any Redis client becomes one durable event, whatever the number
 * of nodes. Every node remembers each foreign message until it hears, on the same channel and so in the same order,
 * that it was appended; the node with the lease appends, one after the other. When that node dies, the next one
 * appends what is left.
 */
export class Bus {
  #waiting: Waiting[] = [];
  #draining: Promise<void> | undefined;
  #ticking: Promise<void> | undefined;
  #hears = true;
  #deafAt = 0;
  #timer: NodeJS.Timeout | undefined;

  constructor(private readonly options: BusOptions) {}

  /**
   * Safe to repeat, after an outage.
   * @throws what Redis answers while it is away
   */
  async start(): Promise<void> {
    const { subscriber, keys, logger } = this.options;
    subscriber.off("message", this.#hear).on("message", this.#hear);
    subscriber.off("close", this.#deaf).on("close", this.#deaf);
    subscriber.off("ready", this.#hearing).on("ready", this.#hearing);
    await subscriber.subscribe(keys.bus("AGENT_STATUS_CHANGED"));
    await this.#tick();
    clearInterval(this.#timer);
    this.#timer = setInterval(() => {
      this.#tick().catch((error) => logger.debug({ err: String(error) }, "bus lease not renewed"));
    }, TICK_MS);
  }

  /** Takes in what this node has heard, and leaves the rest to the others. */
  async stop(): Promise<void> {
    clearInterval(this.#timer);
    // A tick under way would take the lease again after it was given back; where it fails, its caller says so.
    await this.#ticking?.catch(() => {});
    const { subscriber, lease } = this.options;
    subscriber.off("close", this.#deaf);
    // Its answer comes after every message that was sent to this node; a Redis that is away sends none.
    if (subscriber.status === "ready") await Promise.race([subscriber.unsubscribe(), pause(1000)]);
    await this.#draining;
    await this.#drain();
    await lease.release();
  }

  #hear = (_channel: string, text: string): void => {
    const { logger, maxBytes } = this.options;
    try {
      if (Buffer.byteLength(text) > maxBytes) throw new AgentwireError("PAYLOAD_TOO_LARGE");
      const message = parseBusMessage(text);
      if (message.name === "ours") return this.#settle(message.source);
      this.#waiting.push({ message, at: Date.now(), appended: false });
      void this.#drain();
    } catch (error) {
      const { code, message } = error as AgentwireError;
      logger.warn({ code, err: message }, "bus message refused");
    }
  };

  /** The oldest message of this source is in the log. */
  #settle(source: string): void {
    const at = this.#waiting.findIndex(({ message }) => message.source === source);
    if (at >= 0) this.#waiting.splice(at, 1);
  }

  #hearing = (): void => {
    this.#hears = true;
  };

  /**
   * The subscriber's connection is lost (`close` comes again with each attempt to get it back): messages and
   * announcements are missed from now on. Whoever still hears takes over; what is not appended yet is kept.
   */
  #deaf = (): void => {
    if (!this.#hears) return;
    this.#hears = false;
    const { lease, logger } = this.options;
    this.#deafAt = Date.now();
    this.#waiting = this.#waiting.filter(({ appended }) => !appended);
    lease.release().catch((error) => logger.debug({ err: String(error) }, "bus lease not released"));
  };

  /** Before this node appends as the holder: what was taken in by others must be settled. */
  async #catchUp(): Promise<void> {
    // Answered on the subscriber's own connection, so after every announcement of the former holder.
    await this.options.subscriber.ping();
    const [oldest] = this.#waiting;
    if (!oldest || oldest.at > this.#deafAt) return;
    // Announcements of what was heard before this node was deaf may have been missed: the log tells.
    for (const eventId of await this.options.appendedSince(oldest.at)) this.#settle(sourceOf(eventId));
  }

  /** A line that is dead without a word looks like silence. */
  async #provesToHear(): Promise<boolean> {
    const { subscriber } = this.options;
    const answered = await Promise.race([
      subscriber.ping().then(
        () => true,
        () => false,
      ),
      pause(HEAR_MS, false),
    ]);
    if (!answered) {
      this.#deaf();
      subscriber.disconnect(true);
    }
    return answered;
  }

  /** Appends what waits, in order; what fails is tried again at the next tick, before what came after it. */
  #drain(): Promise<void> {
    this.#draining ??= this.#appendAll().finally(() => {
      this.#draining = undefined;
    });
    return this.#draining;
  }

  async #appendAll(): Promise<void> {
    try {
      while (this.options.lease.held) {
        const next = this.#waiting.find(({ appended }) => !appended);
        if (!next) return;
        const result = await this.options.append(next.message.change);
        if (!result) return;
        // A repeat is announced by nobody.
        if (result.duplicate) this.#waiting = this.#waiting.filter((one) => one !== next);
        else next.appended = true;
      }
    } catch (error) {
      this.options.logger.warn({ err: String(error) }, "bus message not appended yet");
    }
  }

  /** One at a time: a later one must not take the lease that an earlier one is about to leave. */
  #tick(): Promise<void> {
    this.#ticking ??= this.#renewAndDrain().finally(() => {
      this.#ticking = undefined;
    });
    return this.#ticking;
  }

  async #renewAndDrain(): Promise<void> {
    const { lease } = this.options;
    const now = Date.now();
    if (now - this.#deafAt < YIELD_MS) return;
    if (lease.held && !(await this.#provesToHear())) return;
    await lease.renew(() => this.#catchUp());
    await this.#drain();
    const forget = now - FORGET_MS;
    this.#waiting = this.#waiting.filter(({ at, appended }) => at > forget || (lease.held && !appended));
  }
}
