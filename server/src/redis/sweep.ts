import { readFileSync } from "node:fs";
import { type RedisKeys, runScript, script } from "@agentwire/shared/redis";
import type { Redis } from "ioredis";

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
   * @returns the connections that died
   * @throws what Redis answers while it is away
   */
  async round(): Promise<Swept[]> {
    const swept: Swept[] = [];
    let now: number;
    for (let offset = 0, looked = PAGE; ; offset += PAGE) {
      ({ now, looked } = await this.#sweep([], swept, offset));
      if (looked < PAGE) break;
    }
    this.#endedBefore = now;
    const { registry } = this.keys;
    const [cursor, found] = await this.redis.scan(this.#cursor, "MATCH", registry, "COUNT", SCANNED);
    for (let start = 0; start < found.length; start += PAGE)
      await this.#sweep(found.slice(start, start + PAGE), swept);
    this.#cursor = cursor;
    return swept;
  }

  /** @param offset where to go on in the leases that ended; without it, only what was found is swept */
  async #sweep(found: string[], swept: Swept[], offset?: number) {
    const { leases, connectionPrefix, userConnectionsPrefix, instancePrefix } = this.keys;
    const prefixes = [connectionPrefix, userConnectionsPrefix, instancePrefix];
    const args = [
      ...prefixes,
      this.#endedBefore,
      offset ?? 0,
      offset === undefined ? 0 : PAGE,
      REMEMBERED_MS,
    ];
    const answer = await runScript(this.redis, SWEEP, [leases, ...found], args);
    const [now, looked, ...died] = answer as [number, number, ...string[]];
    for (let i = 0; i < died.length; i += 2)
      swept.push({ connectionId: died[i] as string, ip: died[i + 1] as string });
    return { now, looked };
  }
}
