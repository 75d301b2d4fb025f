import type { Redis } from "ioredis";

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
    let before = false;
    subscriber.on("ready", () => {
      // It subscribes again by itself; what was said meanwhile was missed.
      if (before) for (const { onListening } of this.#interests.values()) onListening();
      before = true;
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
    this.subscriber.subscribe(channel).then(() => {
      if (this.#interests.get(channel) === interest) onListening();
    }, this.onError);
  }

  /**
   * One less.
   * @returns whether it was the last one
   */
  unwatch(channel: string): boolean {
    const known = this.#interests.get(channel);
    if (!known || --known.count > 0) return false;
    this.#interests.delete(channel);
    this.subscriber.unsubscribe(channel).catch(this.onError);
    return true;
  }
}
