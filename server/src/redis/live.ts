import type { Redis } from "ioredis";

/** After Redis has refused a subscription, as it does while a script runs too long. */
const RETRY_MS = 500;

interface Interest {
  count: number;
  listener(bytes: Buffer): void;
  onListening(): void;
}

/**
 * Redis channels that this node listens to as long as somebody on it has an interest in them. What is said there is kept
 * nowhere: who does not listen at that moment does not hear it.
 */
export class Live {
  readonly #interests = new Map<string, Interest>();

  constructor(
    private readonly subscriber: Redis,
    private readonly onError: (error: unknown) => void,
  ) {
    subscriber.on("messageBuffer", (channel: Buffer, bytes: Buffer) =>
      this.#interests.get(channel.toString())?.listener(bytes),
    );
    // What was said meanwhile was missed.
    subscriber.on("ready", () => {
      for (const [channel, interest] of this.#interests) this.#subscribe(channel, interest);
    });
  }

  /**
   * One more has an interest in this channel.
   * @param onListening called when this node listens, for the first interest only; again after each outage
   */
  watch(channel: string, listener: (text: string) => void, onListening: () => void): void {
    this.watchBytes(channel, (bytes) => listener(bytes.toString()), onListening);
  }

  /** As {@link watch}, of what is not text. */
  watchBytes(channel: string, listener: (bytes: Buffer) => void, onListening: () => void): void {
    const known = this.#interests.get(channel);
    if (known) {
      known.count++;
      return;
    }
    const interest = { count: 1, listener, onListening };
    this.#interests.set(channel, interest);
    this.#subscribe(channel, interest);
  }

  /**
   * One less.
   * @returns whether it was the last one
   */
  unwatch(channel: string): boolean {
    const known = this.#interests.get(channel);
    if (!known || --known.count > 0) return false;
    this.#interests.delete(channel);
    // On a connection that is lost there is nothing left of it.
    if (this.subscriber.status === "ready") this.subscriber.unsubscribe(channel).catch(this.onError);
    return true;
  }

  /** While Redis is away nothing waits: when it is back all are subscribed to. */
  #subscribe(channel: string, interest: Interest): void {
    if (this.subscriber.status !== "ready") return;
    const current = () => this.#interests.get(channel) === interest;
    this.subscriber.subscribe(channel).then(
      () => current() && interest.onListening(),
      (error) => {
        this.onError(error);
        setTimeout(() => current() && this.#subscribe(channel, interest), RETRY_MS).unref();
      },
    );
  }
}
