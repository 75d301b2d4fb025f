import { AgentwireError, limits } from "@agentwire/shared";
import { PublishError } from "./errors.js";

/**
 * Counts the publishes that wait for Redis, and lets no more in than there is room for. One whose caller was told that it
 * failed counts as long as the client has it: a client of the caller's may keep it for as long as Redis is away.
 */
export class Pending {
  #count = 0;

  constructor(private readonly most: number) {}

  /**
   * Runs it and counts it until it is over.
   * @throws PublishError `UNAVAILABLE` where there is no room: nothing was sent
   */
  async run<T>(event_id: string, sending: () => Promise<T>): Promise<T> {
    if (this.#count >= this.most) {
      const message = `not sent: ${this.most} publishes wait for Redis already, the buffer is full`;
      throw new PublishError("UNAVAILABLE", event_id, message);
    }
    this.#count++;
    try {
      return await sending();
    } finally {
      this.#count--;
    }
  }
}

/** @throws AgentwireError `BAD_REQUEST` */
export function pendingOf(most: number = limits.pendingPublishes): Pending {
  if (Number.isInteger(most) && most > 0) return new Pending(most);
  throw new AgentwireError("BAD_REQUEST", "maxPending must be a whole number, 1 or more");
}
