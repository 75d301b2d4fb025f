import { AgentwireError } from "@agentwire/shared";
import type { Appended, RedisKeys } from "@agentwire/shared/redis";
import type { Redis } from "ioredis";
import type { Logger } from "pino";
import type { BusLease } from "./bus-lease.js";
import { type BusMessage, parseBusMessage } from "./bus-message.js";

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
  /** Returns nothing when this node does not hold the lease. */
  append(change: Foreign["change"]): Promise<Appended | undefined>;
  logger: Logger;
}

const TICK_MS = 1000;
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
  #draining = false;
  #timer: NodeJS.Timeout | undefined;

  constructor(private readonly options: BusOptions) {}

  /**
   * Safe to repeat, after an outage.
   * @throws what Redis answers while it is away
   */
  async start(): Promise<void> {
    const { subscriber, keys, logger } = this.options;
    subscriber.removeAllListeners("message").on("message", (_channel, text) => this.#hear(text));
    subscriber.off("close", this.#deaf).on("close", this.#deaf);
    await subscriber.subscribe(keys.bus("AGENT_STATUS_CHANGED"));
    await this.#tick();
    clearInterval(this.#timer);
    this.#timer = setInterval(() => {
      this.#tick().catch((error) => logger.debug({ err: String(error) }, "bus lease not renewed"));
    }, TICK_MS);
  }

  async stop(): Promise<void> {
    clearInterval(this.#timer);
    await this.options.lease.release();
  }

  #hear(text: string): void {
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
  }

  /** The oldest message of this source is in the log. */
  #settle(source: string): void {
    const at = this.#waiting.findIndex(({ message }) => message.source === source);
    if (at >= 0) this.#waiting.splice(at, 1);
  }

  /** Announcements may be missed from now on: what others take in is theirs, what this node has to append stays. */
  #deaf = (): void => {
    this.#waiting = this.options.lease.held ? this.#waiting.filter(({ appended }) => !appended) : [];
  };

  /** Appends what waits, in order; what fails is tried again at the next tick, before what came after it. */
  async #drain(): Promise<void> {
    if (this.#draining) return;
    this.#draining = true;
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
    } finally {
      this.#draining = false;
    }
  }

  async #tick(): Promise<void> {
    const { lease, subscriber } = this.options;
    // Answered on the subscriber's own connection, so after every announcement of the former holder.
    await lease.renew(async () => {
      await subscriber.ping();
    });
    await this.#drain();
    const forget = Date.now() - FORGET_MS;
    this.#waiting = this.#waiting.filter(({ at, appended }) => at > forget || (lease.held && !appended));
  }
}
