import type { RedisKeys } from "@agentwire/shared/redis";
import type { Redis } from "ioredis";

const LEASE_MS = 3000;

/**
 * Which node takes foreign bus messages in. Redis hands each of them to every node, so one does it. append.lua checks
 * the lease again in the same step as it appends: a node that was paused and does not know that its lease is over
 * appends nothing.
 */
export class BusLease {
  #held = false;

  constructor(
    private readonly redis: Redis,
    private readonly keys: RedisKeys,
    private readonly instanceId: string,
  ) {}

  get held(): boolean {
    return this.#held;
  }

  /** Takes the lease if it is free, renews it if it is ours. Returns whether it was taken just now. */
  async renew(): Promise<boolean> {
    const before = this.#held;
    this.#held = false;
    const holder = await this.redis.set(this.keys.busLease, this.instanceId, "PX", LEASE_MS, "NX", "GET");
    if (holder === this.instanceId) await this.redis.pexpire(this.keys.busLease, LEASE_MS);
    this.#held = holder === null || holder === this.instanceId;
    return this.#held && !before;
  }

  async release(): Promise<void> {
    if (!this.#held) return;
    this.#held = false;
    await this.redis.del(this.keys.busLease);
  }
}
