import { randomUUID } from "node:crypto";
import { setTimeout as pause } from "node:timers/promises";
import { AGENTS_NAMESPACE, compareSequence, type SequenceId } from "@agentwire/shared";
import type { RedisKeys } from "@agentwire/shared/redis";
import type { Redis } from "ioredis";

const WAIT_MS = 250;
const GIVE_UP_MS = 3000;

/**
 * Proves that this node's reader reads: writes entries of our own into the stream until one comes back. The adapter
 * reads from `$` until it has read a first entry, so what is published before that would be lost unseen.
 */
export class Marker {
  #seen = new Map<string, () => void>();

  constructor(
    private readonly redis: Redis,
    private readonly keys: RedisKeys,
  ) {}

  /** To be called with each marker that the reader hands over. */
  seen(token: string): void {
    this.#seen.get(token)?.();
  }

  /**
   * @param readerPosition where the reader stands. A Redis that came back empty with its clock behind would give new
   * entries smaller ids, which the reader never sees: then the marker takes an id after it, and later ones follow.
   * @throws what Redis answers while it is away, the signal's reason, or that the reader does not read
   */
  async prove(readerPosition: () => SequenceId, signal: AbortSignal): Promise<void> {
    const token = randomUUID();
    const read = new Promise<true>((resolve) => this.#seen.set(token, () => resolve(true)));
    const end = performance.now() + GIVE_UP_MS;
    try {
      do {
        signal.throwIfAborted();
        if (performance.now() > end) throw new Error("the stream reader does not read");
        await this.#write(token, readerPosition());
      } while (!(await Promise.race([read, pause(WAIT_MS, false, { ref: false })])));
    } finally {
      this.#seen.delete(token);
    }
  }

  async #write(token: string, readerPosition: SequenceId): Promise<void> {
    const fields = ["nsp", AGENTS_NAMESPACE, "type", "0", "marker", token];
    const id = (await this.redis.xadd(this.keys.events, "*", ...fields)) as SequenceId;
    if (compareSequence(id, readerPosition) > 0) return;
    const [ms, n] = readerPosition.split("-");
    await this.redis.xadd(this.keys.events, `${ms}-${Number(n) + 1}`, ...fields);
  }
}
