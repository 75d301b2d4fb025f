import type { Appended, RedisKeys } from "@agentwire/shared/redis";
import type { Redis } from "ioredis";
import type { Logger } from "pino";
import type { BusLease } from "./bus-lease.js";
import { type BusMessage, parseBusMessage } from "./bus-message.js";

type Foreign = Extract<BusMessage, { name: "foreign" }>;

/** A foreign message that is not yet known to be in the log. */
interface Waiting {
  message: Foreign;
  at: number;
  busy: boolean;
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
 * that it was appended; the node with the lease appends. When that node dies, the next one appends what is left.
 */
export class Bus {
  #pending: Waiting[] = [];
  #timer: NodeJS.Timeout | undefined;

  constructor(private readonly options: BusOptions) {}

  /** @throws what Redis answers while it is away */
  async start(): Promise<void> {
    const { subscriber, keys } = this.options;
    const channel = keys.bus("AGENT_STATUS_CHANGED");
    subscriber.removeAllListeners("message");
    subscriber.on("message", (_channel, text) => this.#hear(text));
    await subscriber.subscribe(channel);
    await this.#tick();
    clearInterval(this.#timer);
    this.#timer = setInterval(() => {
      this.#tick().catch((error) =>
        this.options.logger.debug({ err: String(error) }, "bus lease not renewed"),
      );
    }, TICK_MS);
  }

  async stop(): Promise<void> {
    clearInterval(this.#timer);
    await this.options.lease.release();
  }

  #hear(text: string): void {
    const { logger, lease, maxBytes } = this.options;
    try {
      if (text.length > maxBytes) throw new Error("PAYLOAD_TOO_LARGE: the message is too large");
      const message = parseBusMessage(text);
      if (message.name === "ours") return this.#settle(message.source);
      const waiting = { message, at: Date.now(), busy: false };
      this.#pending.push(waiting);
      if (lease.held) void this.#append(waiting);
    } catch (error) {
      const code = error instanceof Error && "code" in error ? error.code : "PAYLOAD_TOO_LARGE";
      logger.warn({ code, err: String(error) }, "bus message refused");
    }
  }

  /** The oldest message of this source is in the log. */
  #settle(source: string): void {
    const at = this.#pending.findIndex(({ message }) => message.source === source);
    if (at >= 0) this.#pending.splice(at, 1);
  }

  async #append(waiting: Waiting): Promise<void> {
    waiting.busy = true;
    try {
      const appended = await this.options.append(waiting.message.change);
      // A repeat is announced by nobody.
      if (appended?.duplicate) this.#pending = this.#pending.filter((one) => one !== waiting);
    } catch (error) {
      this.options.logger.warn({ err: String(error) }, "bus message not appended yet");
    } finally {
      waiting.busy = false;
    }
  }

  async #tick(): Promise<void> {
    const { lease, subscriber } = this.options;
    const taken = await lease.renew();
    // Answered on the subscriber's own connection, so after every announcement of the former holder.
    if (taken) await subscriber.ping();
    const now = Date.now();
    for (const waiting of [...this.#pending]) {
      if (lease.held && !waiting.busy && (taken || now - waiting.at > TICK_MS)) await this.#append(waiting);
    }
    if (!lease.held) this.#pending = this.#pending.filter(({ at }) => now - at < FORGET_MS);
  }
}
