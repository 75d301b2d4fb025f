import { randomUUID } from "node:crypto";
import { readFileSync } from "node:fs";
import { type RedisKeys, runScript, script } from "@agentwire/shared/redis";
import type { Redis } from "ioredis";

const SHARE = script(readFileSync(new URL("../../src/redis/share.lua", import.meta.url), "utf8"));

/** One node's report; share.lua says what each number is. */
export interface ShareReport {
  limit: number;
  held: number;
  used: number;
  waiting: number;
  connections: number;
  nodes: number;
}

/** This node's share of the cluster's limit of messages per second, as it stands in Redis. */
export class Shares {
  /** Another one in each life: what the one before sent is still in the window. */
  readonly #holder: string;
  #reports = 0;
  /** Redis' time (ms) minus ours, as of the last answer. */
  #ahead: number | undefined;

  constructor(
    private readonly redis: Redis,
    private readonly keys: RedisKeys,
    instanceId: string,
  ) {
    this.#holder = `${instanceId}:${randomUUID()}`;
  }

  /**
   * Renews the lease (2 s) and asks what this node may have in its window of one second. One at a time.
   * @throws when Redis does not answer, or took the report too late for it to count
   */
  async lease(report: ShareReport): Promise<{ share: number; nodes: number }> {
    const sent = this.#ahead === undefined ? 0 : Math.floor(performance.now() + this.#ahead);
    const { limit, held, used, waiting, connections, nodes } = report;
    const args = [++this.#reports, sent, limit, held, used, waiting, connections, nodes];
    const answer = await runScript(this.redis, SHARE, [this.keys.rateLimitGlobal], [this.#holder, ...args]);
    const [share, present, time] = answer as [number, number, number];
    this.#ahead = time - performance.now();
    if (share < 0) throw new Error("the report on this node's share came too late");
    return { share, nodes: present };
  }

  async giveBack(): Promise<void> {
    await this.redis.hdel(this.keys.rateLimitGlobal, this.#holder);
  }
}
