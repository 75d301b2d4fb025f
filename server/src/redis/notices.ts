import type { Redis } from "ioredis";

/**
 * What is said to all nodes and kept nowhere: JSON over Redis' publish and subscribe. Who does not listen at that moment
 * does not hear it.
 */
export class Notices {
  readonly #listeners = new Map<string, (notice: unknown) => void>();

  constructor(
    private readonly subscriber: Redis,
    private readonly commands: Redis,
    options: {
      /** It listens again, and may have missed something. */
      onReturn(): void;
      /** Something was said that is no JSON, or that a listener could not take. */
      onBad(channel: string, error: unknown): void;
    },
  ) {
    subscriber.on("message", (channel, text) => {
      const listener = this.#listeners.get(channel);
      if (!listener) return;
      try {
        listener(JSON.parse(text));
      } catch (error) {
        options.onBad(channel, error);
      }
    });
    let before = false;
    subscriber.on("ready", () => {
      if (before) options.onReturn();
      before = true;
    });
  }

  on(channel: string, listener: (notice: unknown) => void): void {
    this.#listeners.set(channel, listener);
  }

  /**
   * Listens on every channel that has a listener. Safe to repeat.
   * @throws what Redis answers while it is away
   */
  async start(): Promise<void> {
    await this.subscriber.subscribe(...this.#listeners.keys());
  }

  async publish(channel: string, notice: object): Promise<void> {
    await this.commands.publish(channel, JSON.stringify(notice));
  }
}
