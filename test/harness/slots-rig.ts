import { setTimeout as pause } from "node:timers/promises";
import { redisKeys } from "@agentwire/shared/redis";
import type { Redis } from "ioredis";
import { type Slot, type SlotNotice, Slots } from "../../server/src/door/slots.js";
import { type SlotLimits, SlotTable } from "../../server/src/redis/slots.js";
import { needs } from "./needs.js";
import { type RedisServer, startRedis } from "./redis.js";

const SECOND = 1000;
export const LEASE_MS = 15 * SECOND;
export const NO_LIMITS: SlotLimits = { cluster: 0, perUser: 0, perAddressAndMinute: 0 };
export const keys = redisKeys();

/** One connection, from when its place was taken. */
export class Client {
  opened = false;
  /** Whether it answers a ping. */
  alive = true;
  /** So long after it was asked (ms). */
  delay = 0;
  asked = 0;
  closed = false;

  constructor(
    readonly node: SlotNode,
    readonly slot: Slot,
  ) {}

  get id(): string {
    return this.slot.connectionId;
  }

  open(): void {
    this.opened = true;
    this.node.slots.opened(this.id, {
      answers: async (withinMs) => {
        this.asked++;
        await pause(this.alive ? this.delay : withinMs);
        return this.alive && !this.closed;
      },
      close: () => this.close(),
    });
  }

  /** As a transport that closes: its place is given back. */
  close(): void {
    if (this.closed) return;
    this.closed = true;
    this.node.clients.delete(this);
    this.node.slots.release(this.id);
  }
}

/** What nodes say to each other: everybody who lives hears it, a paused one when it goes on. */
export class Air {
  readonly nodes: SlotNode[] = [];
  readonly said: SlotNotice[] = [];
  /** What is said fails. */
  fails = false;

  async publish(notice: SlotNotice): Promise<void> {
    if (this.fails) throw new Error("Redis is away");
    this.said.push(notice);
    for (const node of this.nodes) if (!node.deaf) node.hear(notice);
  }
}

let made = 0;

/** A node, as far as places go. */
export class SlotNode {
  readonly clients = new Set<Client>();
  readonly errors: unknown[] = [];
  readonly slots: Slots;
  state: "active" | "paused" | "dead" = "active";
  /** It does not hear notices. */
  deaf = false;
  #unheard: SlotNotice[] = [];

  constructor(
    table: SlotTable,
    readonly air: Air,
    times = { answer: 60, look: 5, young: -1 },
  ) {
    this.slots = new Slots({
      table,
      publish: (notice) => air.publish(notice),
      onError: (error) => this.errors.push(error),
      times,
    });
    air.nodes.push(this);
  }

  hear(notice: SlotNotice): void {
    if (this.state === "active") setImmediate(() => this.slots.notice(notice));
    if (this.state === "paused") this.#unheard.push(notice);
  }

  /** Whoever comes in; the code of the refusal where it does not. */
  async knock(userId: string, address = "192.0.2.1"): Promise<Client | string> {
    const slot = { connectionId: `c${++made}`, userId, address };
    const shortage = await this.slots.take(slot);
    if (shortage) return shortage.code;
    const client = new Client(this, slot);
    this.clients.add(client);
    return client;
  }

  /** It comes in, and its connection is open. */
  async enter(userId: string, address?: string): Promise<Client> {
    const client = await this.knock(userId, address);
    if (typeof client === "string") throw new Error(client);
    client.open();
    // What is renewed in the very millisecond of a call counts as an answer to it.
    await pause(2);
    return client;
  }

  resume(): void {
    this.state = "active";
    for (const notice of this.#unheard.splice(0)) this.hear(notice);
  }
}

/** Nodes at one table of places in a Redis. To be called in `describe`; each test begins with an empty Redis. */
export function slotRig() {
  needs("REDIS");
  let server: RedisServer;
  let redis: Redis;
  before(async () => {
    server = await startRedis();
    redis = server.client();
  });
  after(() => server?.stop());
  beforeEach(() => redis.flushall());

  const cluster = (
    nodes: number,
    limits: Partial<SlotLimits>,
    times?: ConstructorParameters<typeof SlotNode>[2],
  ) => {
    const air = new Air();
    const table = new SlotTable(redis, keys, { ...NO_LIMITS, ...limits });
    const all = Array.from({ length: nodes }, () => new SlotNode(table, air, times));
    return { air, table, all, at: (n: number) => all[n] as SlotNode };
  };
  const now = async () => {
    const [seconds, micros] = (await redis.time()).map(Number) as [number, number];
    return seconds * SECOND + Math.floor(micros / 1000);
  };
  const places = async (key: string) => redis.zrangebyscore(key, `(${await now()}`, "+inf");
  const ofUser = (user: string) => places(keys.userConnections(user));
  /** Time passes, as far as Redis can tell. */
  const pass = async (ms: number) => {
    for (const key of [
      ...(await redis.keys("ws:leases")),
      ...(await redis.keys("ws:connections:user:*")),
      ...(await redis.keys("ws:ratelimit:*")),
    ])
      for (const id of await redis.zrange(key, "0", "-1")) await redis.zincrby(key, -ms, id);
  };
  return {
    get redis() {
      return redis;
    },
    cluster,
    now,
    places,
    ofUser,
    pass,
  };
}
