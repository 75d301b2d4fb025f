import { readFileSync } from "node:fs";
import { type RedisKeys, runScript, script } from "@agentwire/shared/redis";
import type { Redis } from "ioredis";
import { replies } from "./pipeline.js";

const SWEEP = script(readFileSync(new URL("../../src/redis/sweep.lua", import.meta.url), "utf8"));

/** So many at once: others wait for Redis for a few milliseconds at most. */
const PAGE = 200;
/** Keys of any kind that one round looks at. A hundred thousand of them are looked through in less than a minute. */
const SCANNED = 2000;
/** What died does not count for its address' limit as long as its lease can be seen here. */
const REMEMBERED_MS = 60_000;

/** A connection that was still on record, and whose node is dead. */
export interface Swept {
  connectionId: string;
  ip: string;
  /** ISO 8601. */
  connectedAt: string;
}

/** Keeps Redis true about connections and nodes: what nobody has a lease for goes. To be done by one node at a time. */
export class Sweep {
  /** Leases that ended before this (ms, Redis' time) were looked at. */
  #endedBefore: number | "-inf" = "-inf";
  #cursor = "0";

  constructor(
    private readonly redis: Redis,
    private readonly keys: RedisKeys,
  ) {}

  /**
   * What ended since the last round, at once; and a part of everything, for what was left by whatever cause.
   * @returns the connections whose leases have ended
   * @throws what Redis answers while it is away
   */
  async round(): Promise<Swept[]> {
    const { leases, registry, instances } = this.keys;
    const [seconds] = await this.redis.time();
    const now = Number(seconds) * 1000;
    const [, ended, nodes] = (await replies(
      this.redis
        .pipeline()
        .zremrangebyscore(leases, "-inf", now - REMEMBERED_MS)
        .zrangebyscore(leases, `(${this.#endedBefore}`, now)
        .smembers(instances),
    )) as [number, string[], string[]];
    const died = await this.#sweep(ended.map((id) => this.keys.connection(id)));
    this.#endedBefore = now;
    await this.#sweep(nodes.map((id) => this.keys.instance(id)));

    const [cursor, found] = await this.redis.scan(this.#cursor, "MATCH", registry, "COUNT", SCANNED);
    await this.#sweep(found);
    this.#cursor = cursor;
    return died;
  }

  async #sweep(found: string[]): Promise<Swept[]> {
    const { leases, connectionPrefix, userConnectionsPrefix, instancePrefix, instances } = this.keys;
    const args = [connectionPrefix, userConnectionsPrefix, instancePrefix, instances];
    const swept: Swept[] = [];
    for (let start = 0; start < found.length; start += PAGE) {
      const names = [leases, ...found.slice(start, start + PAGE)];
      const removed = (await runScript(this.redis, SWEEP, names, args)) as string[];
      for (let i = 0; i < removed.length; i += 3) {
        const [connectionId = "", ip = "", connectedAt = ""] = removed.slice(i, i + 3);
        swept.push({ connectionId, ip, connectedAt });
      }
    }
    return swept;
  }
}
