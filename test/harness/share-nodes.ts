import { randomUUID } from "node:crypto";
import { type RedisKeys, redisKeys } from "@agentwire/shared/redis";
import { expect } from "chai";
import { pino } from "pino";
import { Share, type Waiter } from "../../server/src/gate/share.js";
import { connectRedis } from "../../server/src/redis/clients.js";
import { Shares } from "../../server/src/redis/share.js";
import { needs } from "./needs.js";
import { type RedisServer, startRedis } from "./redis.js";
import { watchStalls } from "./stalls.js";
import { onTeardown } from "./teardown.js";
import { until } from "./wait.js";

const SECOND = 1000;

/** A node of the cluster, as far as the limit goes: its connections always have something to send, or nothing. */
export class ShareNode {
  /** When its messages were sent (ms), as the share counted them. */
  readonly sent: number[] = [];
  readonly errors: unknown[] = [];
  readonly share: Share;
  connections: number;
  dead = false;
  #now = 0;
  #waiters: Waiter[] = [];

  constructor(limit: number, shares: Pick<Shares, "lease" | "giveBack">, connections: number) {
    this.connections = connections;
    const orDead = <T>(call: () => Promise<T>) => (this.dead ? Promise.reject(new Error("dead")) : call());
    this.share = new Share({
      limit,
      lease: (report) => orDead(() => shares.lease(report)),
      giveBack: () => orDead(() => shares.giveBack()),
      connections: () => this.connections,
      now: () => {
        this.#now = performance.now();
        return this.#now;
      },
      onError: (error) => this.errors.push(error),
    });
  }

  /** So many of its connections want to send all the time. @returns what each of them has sent, growing */
  flood(connections: number): number[] {
    const counts = new Array<number>(connections).fill(0);
    this.#waiters = counts.map((_, n) => ({
      turn: () => {
        this.sent.push(this.#now);
        counts[n] = (counts[n] ?? 0) + 1;
        return "again";
      },
    }));
    for (const waiter of this.#waiters) this.share.wait(waiter);
    return counts;
  }

  calm(): void {
    for (const waiter of this.#waiters.splice(0)) this.share.leave(waiter);
  }

  /** `kill -9`: nothing is sent, nothing is said. */
  die(): void {
    this.calm();
    this.dead = true;
  }

  /** Sends as many as it may at once. */
  burst(): number {
    for (let n = 0; ; n++) {
      const now = performance.now();
      if (!this.share.take(now)) return n;
      this.sent.push(now);
    }
  }

  /** How many it sent in this stretch of time (ms). */
  between(from: number, to: number): number {
    return this.sent.filter((t) => t >= from && t < to).length;
  }
}

/** In no second, wherever it begins, did all nodes together send more than the limit. */
export function expectWithin(limit: number, nodes: Pick<ShareNode, "sent">[]): void {
  const sent = nodes.flatMap((node) => node.sent).sort((a, b) => a - b);
  for (let n = limit; n < sent.length; n++) {
    const took = (sent[n] as number) - (sent[n - limit] as number);
    if (took < SECOND) expect.fail(`${limit + 1} messages within ${took} ms`);
  }
}

/**
 * From now on these nodes send so many messages in each second, for some seconds. Not counted by the clock: full demand
 * comes in bursts, a little over a second apart, and a stretch of time may hold one more or less.
 */
export async function expectPace(perSecond: number, seconds: number, nodes: ShareNode[]): Promise<void> {
  const stalls = watchStalls();
  const before = nodes.map((node) => node.sent.length);
  const count = Math.floor(perSecond) * seconds;
  await until(`${count} more are sent`, () => {
    return nodes.reduce((all, { sent }, n) => all + sent.length - (before[n] ?? 0), 0) > count;
  });
  const sent = nodes.flatMap((node, n) => node.sent.slice(before[n])).sort((a, b) => a - b);
  const [first = 0, last = 0] = [sent[0], sent[count]];
  expect(last - first, `ms for ${count}`).to.be.at.most((seconds * SECOND) / 0.98 + stalls.total());
}

/** All shares together. */
export const sum = (shares: Map<unknown, number>) => [...shares.values()].reduce((a, b) => a + b, 0);

/** Nodes and a Redis that divides the limit among them. To be called in `describe`; each test has keys of its own. */
export function shareCluster() {
  needs("REDIS");
  let redis: RedisServer;
  let keys: RedisKeys;

  before(async () => {
    redis = await startRedis();
  });
  after(() => redis?.stop());
  const freshKeys = () => {
    keys = redisKeys(randomUUID());
  };
  beforeEach(freshKeys);

  /** The client that a node has. */
  async function client() {
    const clients = connectRedis({ kind: "url", url: redis.url }, keys, pino({ level: "silent" }));
    onTeardown(clients.close);
    await until("connected", () => clients.commands.status === "ready");
    return clients.commands;
  }
  async function start(limit: number, connections: number[]): Promise<ShareNode[]> {
    const commands = await client();
    const nodes = connections.map(
      (count, n) => new ShareNode(limit, new Shares(commands, keys, `node-${n}`), count),
    );
    // Not waited for: what they sent takes a second to leave.
    onTeardown(() => {
      for (const node of nodes) void node.share.stop();
    });
    for (const node of nodes) node.share.start();
    return nodes;
  }
  /** Instance → its share, as it stands in Redis. */
  async function granted() {
    const hash = await redis.client().hgetall(keys.rateLimitGlobal);
    return new Map(
      Object.entries(hash).map(([holder, text]) => [holder.split(":")[0], Number(text.split(" ")[0])]),
    );
  }
  return {
    get redis() {
      return redis;
    },
    get keys() {
      return keys;
    },
    freshKeys,
    client,
    start,
    granted,
  };
}
