import { randomUUID } from "node:crypto";
import type { RedisKeys } from "@agentwire/shared/redis";
import type { Redis } from "ioredis";

const LEASE_MS = 3000;

/**
 * Which node takes foreign bus messages in. Redis hands each of them to every node, so one does it. append.lua checks
 * the lease again in the same step as it appends: a node that was paused and does not know that its lease is over
 * appends nothing.
 */
export class BusLease {
  #heldUntil = 0;
  /** Another one in each life: a node that comes back under its name has not heard what came while it was gone. */
  readonly holder: string;

  constructor(
    private readonly redis: Redis,
    private readonly keys: RedisKeys,
    instanceId: string,
  ) {
    this.holder = `${instanceId}:${randomUUID()}`;
  }

  get held(): boolean {
    return performance.now() < this.#heldUntil;
  }

  /**
   * Takes the lease if it is free, renews it if it is ours.
   * @param beforeHolding what must be over before this node acts as the holder, when it was not
   */
  async renew(beforeHolding: () => Promise<void>): Promise<void> {
    const end = performance.now() + LEASE_MS;
    const holder = await this.redis.set(this.keys.busLease, this.holder, "PX", LEASE_MS, "NX", "GET");
    if (holder === this.holder) await this.redis.pexpire(this.keys.busLease, LEASE_MS);
    const ours = holder === null || holder === this.holder;
    if (ours && !this.held) await beforeHolding();
    this.#heldUntil = ours ? end : 0;
  }

  async release(): Promise<void> {
    if (!this.held) return;
    this.#heldUntil = 0;
    await this.redis.del(this.keys.busLease);
  }
}
