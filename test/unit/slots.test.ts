// Long: each way in which a place could be lost, doubled or kept for nobody by itself, the scripts, and a model of all together.
import { readFileSync } from "node:fs";
import { setTimeout as pause } from "node:timers/promises";
import { redisKeys } from "@agentwire/shared/redis";
import { expect } from "chai";
import type { Redis } from "ioredis";
import { judgeHandshake } from "../../server/src/door/handshake.js";
import { type Slot, type SlotNotice, Slots } from "../../server/src/door/slots.js";
import { type SlotLimits, SlotTable } from "../../server/src/redis/slots.js";
import { createRandom } from "../fuzz/random.js";
import { needs } from "../harness/needs.js";
import { type RedisServer, startRedis } from "../harness/redis.js";
import { until } from "../harness/wait.js";

const SECOND = 1000;
const LEASE_MS = 15 * SECOND;
const keys = redisKeys();

/** One connection, from when its place was taken. */
class Client {
  opened = false;
  /** Whether it answers a ping. */
  alive = true;
  /** So long after it was asked (ms). */
  delay = 0;
  asked = 0;
  closed = false;

  constructor(
    readonly node: Node,
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
class Air {
  readonly nodes: Node[] = [];
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

class Node {
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

describe("slots", () => {
  needs("REDIS");
  let server: RedisServer;
  let redis: Redis;
  before(async () => {
    server = await startRedis();
    redis = server.client();
  });
  after(() => server.stop());
  beforeEach(() => redis.flushall());

  const NO_LIMITS: SlotLimits = { cluster: 0, perUser: 0, perAddressAndMinute: 0 };
  const cluster = (
    nodes: number,
    limits: Partial<SlotLimits>,
    times?: ConstructorParameters<typeof Node>[2],
  ) => {
    const air = new Air();
    const table = new SlotTable(redis, keys, { ...NO_LIMITS, ...limits });
    const all = Array.from({ length: nodes }, () => new Node(table, air, times));
    return { air, table, all, at: (n: number) => all[n] as Node };
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

  it("[D23] a notice that fails takes no place for ever: who comes in has it, whoever lost it does not get it back", async () => {
    const { air, at } = cluster(2, { perUser: 1 });
    const lost = await at(0).enter("anna");
    lost.alive = false;
    const call = at(1).knock("anna");
    await until("the roll is called", () => air.said.length === 1);
    air.fails = true;
    const came = await call.catch(String);
    air.fails = false;
    for (const { slots } of air.nodes) await slots.renewAll();
    const held = await ofUser("anna");
    expect(held).to.have.length(1);
    if (came instanceof Client) {
      came.open();
      expect(held).to.deep.equal([came.id]);
      expect(lost.closed).to.equal(true);
      came.close();
    }
    await at(1).slots.emptied();
    await pass(LEASE_MS);
    for (const { slots } of air.nodes) await slots.renewAll();
    expect(at(1).clients.size === 0 ? await ofUser("anna") : []).to.deep.equal([]);
  });

  it("[D23] where the call did not get through nobody loses a place: the next one calls again", async () => {
    const { air, at } = cluster(2, { perUser: 1 });
    const alive = await at(0).enter("anna");
    air.fails = true;
    const failed = await at(1)
      .knock("anna")
      .catch(() => "failed");
    air.fails = false;
    expect(failed).to.equal("failed");
    expect(await at(1).knock("anna")).to.equal("USER_CONNECTION_LIMIT");
    expect(alive.asked).to.equal(1);
    expect(alive.closed).to.equal(false);
  });

  it("[D23] a call that takes long to get through leaves as much time to answer", async () => {
    const { air, at } = cluster(2, { perUser: 1 }, { answer: 100, look: 5, young: -1 });
    const alive = await at(0).enter("anna");
    alive.delay = 50;
    const publish = air.publish.bind(air);
    air.publish = async (notice) => {
      await pause(120);
      await publish(notice);
    };
    expect(await at(1).knock("anna")).to.equal("USER_CONNECTION_LIMIT");
    expect(alive.closed).to.equal(false);
  });

  it("[D23] two nodes call the roll, one while the other still waits: who answers keeps its place", async () => {
    const { air, at } = cluster(3, { perUser: 2 }, { answer: 200, look: 5, young: -1 });
    const alive = await at(0).enter("anna");
    const silent = await at(0).enter("anna");
    silent.alive = false;
    const first = at(1).knock("anna");
    await until("the first roll is called", () => air.said.length === 1);
    await pause(60);
    const second = at(2).knock("anna");
    expect([await first, await second].filter((one) => one instanceof Client)).to.have.length(1);
    expect(await ofUser("anna"))
      .to.have.length(2)
      .and.include(alive.id);
    expect(alive.asked).to.equal(2);
    expect([alive.closed, silent.closed]).to.deep.equal([false, true]);
  });

  it("[D23] a beat while the roll is called renews nobody who is silent, nor while a second call goes on", async () => {
    const { air, at } = cluster(3, { perUser: 2 }, { answer: 200, look: 5, young: -1 });
    const silent = [await at(0).enter("anna"), await at(0).enter("anna")];
    for (const one of silent) one.alive = false;
    const first = at(1).knock("anna");
    await until("the first roll is called", () => air.said.length === 1);
    await pause(80);
    const second = at(2).knock("anna");
    await until("the second roll is called", () => air.said.length === 2);
    await pause(20);
    await at(0).slots.renewAll();
    expect(await first, "during the first").to.be.instanceOf(Client);
    await at(0).slots.renewAll();
    expect(await second, "during the second").to.be.instanceOf(Client);
    await until("both are closed", () => silent.every(({ closed }) => closed));
  });

  it("[D23] where everybody answers at once the refusal comes at once", async () => {
    const { at } = cluster(2, { perUser: 1 }, { answer: 5000, look: 5, young: -1 });
    await at(0).enter("anna");
    const began = performance.now();
    expect(await at(1).knock("anna")).to.equal("USER_CONNECTION_LIMIT");
    expect(performance.now() - began).to.be.below(2000);
  });

  it("[D23] whoever is young is there, without a question: it may still be on its way in", async () => {
    const { at } = cluster(2, { perUser: 2 }, { answer: 60, look: 5, young: 60_000 });
    const silent = await at(0).enter("anna");
    silent.alive = false;
    const onItsWay = await at(0).knock("anna");
    await pass(1);
    expect(await at(1).knock("anna")).to.equal("USER_CONNECTION_LIMIT");
    expect(silent.asked).to.equal(0);
    expect(await ofUser("anna")).to.have.members([silent.id, (onItsWay as Client).id]);
  });

  it("[D23] what never opened does not count for its address, what did does", async () => {
    const { at } = cluster(1, { perAddressAndMinute: 2 });
    const never = await at(0).knock("anna");
    (never as Client).close();
    const was = await at(0).enter("anna");
    was.close();
    await at(0).slots.emptied();
    expect(await redis.zrange(keys.rateLimitIp("192.0.2.1"), "0", "-1")).to.deep.equal([was.id]);
  });

  it("[D23] what left while it was asked is not renewed when its answer comes", async () => {
    const { at } = cluster(1, { perUser: 1 }, { answer: 100, look: 5, young: -1 });
    const left = await at(0).enter("anna");
    left.delay = 40;
    at(0).slots.notice({ call: "anna" });
    await until("it is asked", () => left.asked === 1);
    at(0).slots.release(left.id);
    await pause(80);
    expect(await ofUser("anna")).to.deep.equal([]);
  });

  it("[D23] whoever resumes frees the place it had, also where nobody is left to hear it", async () => {
    const { at } = cluster(2, { perUser: 2 });
    const former = await at(0).enter("anna");
    at(0).state = "dead";
    const came = await at(1).enter("anna");
    await at(1).slots.replace(former.id, "anna");
    expect(await ofUser("anna")).to.deep.equal([came.id]);
    expect(await places(keys.leases)).to.deep.equal([came.id]);
  });

  it("[D23] a beat renews every place, however many there are", async () => {
    const { at } = cluster(1, {});
    const knocks = Array.from({ length: 250 }, (_, n) => at(0).knock(`user-${n % 7}`));
    const all = await Promise.all(knocks);
    await pass(LEASE_MS - SECOND);
    await at(0).slots.renewAll();
    await pass(LEASE_MS - SECOND);
    expect(await places(keys.leases)).to.have.members(all.map((one) => (one as Client).id));
  });

  it("[D23] many at one door share a call; one that comes later is called for again", async () => {
    const { air, at } = cluster(2, { perUser: 2 });
    const all = [await at(0).enter("anna"), await at(1).enter("anna")];
    const refused = await Promise.all(Array.from({ length: 10 }, () => at(1).knock("anna")));
    expect(new Set(refused)).to.deep.equal(new Set(["USER_CONNECTION_LIMIT"]));
    expect(air.said).to.deep.equal([{ call: "anna" }]);
    for (const one of all) expect(one.asked).to.equal(1);
    await pause(150);
    expect(await at(1).knock("anna")).to.equal("USER_CONNECTION_LIMIT");
    expect(air.said).to.have.length(2);
  });

  it("[D23] a node that was away for longer than a lease takes back no place that others have now", async () => {
    const { at } = cluster(2, { perUser: 2 });
    const former = [await at(0).enter("anna"), await at(0).enter("anna"), await at(0).enter("ben")];
    await pass(LEASE_MS);
    const newer = [await at(1).enter("anna")];
    await at(0).slots.renewAll();
    expect(await ofUser("anna"))
      .to.have.length(2)
      .and.include((newer[0] as Client).id);
    expect(former.map(({ closed }) => closed)).to.deep.equal([false, true, false]);
    expect(await ofUser("ben")).to.deep.equal([(former[2] as Client).id]);
    await at(0).slots.emptied();
    expect(await places(keys.leases)).to.have.length(3);
  });

  it("[D23] nor one of the cluster's, when it is full", async () => {
    const { at } = cluster(2, { cluster: 2 });
    const former = [await at(0).enter("anna"), await at(0).enter("ben")];
    await pass(LEASE_MS);
    await at(1).enter("carl");
    await at(0).slots.renewAll();
    expect(former.map(({ closed }) => closed)).to.deep.equal([false, true]);
    await at(0).slots.emptied();
    expect(await places(keys.leases)).to.have.length(2);
    expect(await at(1).knock("dora")).to.equal("CLUSTER_FULL");
  });

  it("[D23] a node that did not hear that a place was taken over ends the connection at its next beat", async () => {
    const { at } = cluster(2, { perUser: 1 });
    const former = await at(0).enter("anna");
    former.alive = false;
    at(0).deaf = true;
    await pass(1);
    const came = await at(1).enter("anna");
    former.alive = true;
    await at(0).slots.renewAll();
    expect(former.closed).to.equal(true);
    await at(0).slots.emptied();
    expect(await ofUser("anna")).to.deep.equal([came.id]);
  });

  it("[D23] a connection that loses its place is not renewed while it ends", async () => {
    const { at } = cluster(2, { perUser: 0 });
    const former = await at(0).enter("anna");
    // It has last words to say.
    const { close } = former;
    let told = false;
    former.close = () => {
      told = true;
    };
    const came = await at(1).enter("anna");
    await at(1).slots.replace(former.id, "anna");
    await until("it is told", () => told);
    await at(0).slots.renewAll();
    expect(await ofUser("anna")).to.deep.equal([came.id]);
    close.call(former);
    await at(0).slots.emptied();
    expect(await places(keys.leases)).to.deep.equal([came.id]);
  });

  it("[D23] a place that was taken over before its connection was open: it ends as soon as it is", async () => {
    const { at } = cluster(2, { perUser: 1 });
    const slow = await at(0).knock("anna");
    if (!(slow instanceof Client)) throw new Error(slow);
    await pass(1);
    const came = await at(1).enter("anna");
    await new Promise((heard) => setTimeout(heard, 5));
    slow.open();
    expect(slow.closed).to.equal(true);
    await at(0).slots.renewAll();
    expect(await ofUser("anna")).to.deep.equal([came.id]);
  });

  it("[D17] a handshake that the end of the node overtakes takes no place", async () => {
    const { at } = cluster(1, {});
    const { slots } = at(0);
    let closed = false;
    const verdict = await judgeHandshake(
      {
        url: "/socket.io/?EIO=4&transport=polling&token=x",
        method: "GET",
        headers: {},
      } as Parameters<typeof judgeHandshake>[0],
      new URLSearchParams("EIO=4&transport=polling&token=x"),
      false,
      {
        closed: () => (closed ? { code: "DRAINING", message: "", retry: "later" } : undefined),
        origin: { allows: () => true, headers: () => ({}) },
        address: () => "192.0.2.1",
        verify: async () => ({ id: "anna", claims: {}, expiresAt: Number.POSITIVE_INFINITY }),
        policy: {
          async projectsOf() {
            closed = true;
            return new Set<string>();
          },
        },
        maxFilterIds: 50,
        slots,
      },
    );
    expect(verdict).to.deep.include({ userId: "anna" });
    expect("refused" in verdict && verdict.refused.code).to.equal("DRAINING");
    await slots.emptied();
    await slots.renewAll();
    expect(await redis.zcard(keys.leases)).to.equal(0);
  });

  describe("the scripts, to the millisecond", () => {
    const NOW = 1_700_000_000_000;
    const WINDOW = 60_000;
    const source = (name: string) =>
      readFileSync(new URL(`../../server/src/redis/${name}`, import.meta.url), "utf8");
    /** The script, at a time that stands still. */
    const at = (name: string, now: number) => {
      const still = source(name).replace(
        "redis.call('TIME')",
        `{ '${Math.floor(now / SECOND)}', '${(now % SECOND) * 1000 + 999}' }`,
      );
      expect(still).not.to.include("'TIME'");
      return still;
    };
    const of = keys.userConnections("anna");
    const from = keys.rateLimitIp("192.0.2.1");
    const take = (
      limits: Partial<SlotLimits>,
      { id = "new", since = "" as number | "", over = false } = {},
    ) => {
      const { cluster, perUser, perAddressAndMinute } = { ...NO_LIMITS, ...limits };
      const args = [
        "take",
        cluster,
        perAddressAndMinute,
        WINDOW,
        perUser,
        id,
        LEASE_MS,
        since,
        over ? "over" : "",
      ];
      return redis.eval(at("slot-take.lua", NOW), 3, keys.leases, from, of, ...args);
    };
    const look = (limits: Partial<SlotLimits>) => {
      const { cluster, perAddressAndMinute } = { ...NO_LIMITS, ...limits };
      return redis.eval(
        at("slot-take.lua", NOW),
        2,
        keys.leases,
        from,
        "look",
        cluster,
        perAddressAndMinute,
        WINDOW,
      );
    };
    const renew = (limits: Partial<SlotLimits>, ...ids: string[]) => {
      const { cluster, perUser } = { ...NO_LIMITS, ...limits };
      const users = ids.map(() => of);
      const args = [LEASE_MS, cluster, perUser, ...ids];
      return redis.eval(at("slot-renew.lua", NOW), 1 + users.length, keys.leases, ...users, ...args);
    };
    const put = async (key: string, scores: Record<string, number>) => {
      for (const [id, score] of Object.entries(scores)) await redis.zadd(key, score, id);
    };

    it("[D23] a place is one until its lease ends, and not when it does", async () => {
      await put(keys.leases, { a: NOW + 1 });
      await put(of, { a: NOW + 1 });
      expect(await look({ cluster: 1 })).to.deep.equal([1]);
      expect(await take({ cluster: 1 })).to.deep.equal([1]);
      expect(await take({ perUser: 1 })).to.deep.equal([3, 0, NOW]);
      await put(keys.leases, { a: NOW });
      await put(of, { a: NOW });
      expect(await look({ cluster: 1 })).to.deep.equal([0, ""]);
      expect(await take({ cluster: 1, perUser: 1 })).to.deep.equal([0, ""]);
      expect(await redis.zscore(of, "a")).to.equal(null);
      for (const key of [of, keys.leases])
        expect(await redis.zscore(key, "new")).to.equal(String(NOW + LEASE_MS));
      expect(await redis.exists(from), "no limit, no list").to.equal(0);
      expect(await take({ cluster: 1, perUser: 1 }, { id: "more" })).to.deep.equal([1]);
    });

    it("[D23] an address counts for exactly a minute, and is told when it may come again", async () => {
      const two = { perAddressAndMinute: 2 };
      await put(from, { a: NOW - WINDOW + 1, b: NOW - 5 });
      expect(await look(two)).to.deep.equal([2, 1]);
      expect(await take(two)).to.deep.equal([2, 1]);
      expect(await redis.exists(keys.leases), "nothing is taken").to.equal(0);
      await put(from, { a: NOW - WINDOW });
      expect(await look(two)).to.deep.equal([0, ""]);
      expect(await take(two)).to.deep.equal([0, ""]);
      expect(await redis.zrange(from, "0", "-1", "WITHSCORES")).to.deep.equal([
        "b",
        String(NOW - 5),
        "new",
        String(NOW),
      ]);
      expect(await redis.pttl(from)).to.be.within(WINDOW - 5000, WINDOW);
      expect(await take(two, { id: "more" })).to.deep.equal([2, WINDOW - 5]);
      // A limit that was lowered: so many must leave first.
      expect(await take({ perAddressAndMinute: 1 }, { id: "more" })).to.deep.equal([2, WINDOW]);
    });

    it("[D23] what died does not count for its address, what was closed does", async () => {
      const two = { perAddressAndMinute: 2 };
      await put(from, { died: NOW - 20_000, closed: NOW - 20_000 });
      await put(keys.leases, { died: NOW + 1 });
      expect(await take(two)).to.deep.equal([2, WINDOW - 20_000]);
      await put(keys.leases, { died: NOW });
      expect(await take(two)).to.deep.equal([0, ""]);
      expect(await redis.zrange(from, "0", "-1")).to.deep.equal(["closed", "new"]);
      expect(await redis.zrange(keys.leases, "0", "-1"), "it stays for a minute").to.deep.equal([
        "died",
        "new",
      ]);
      await put(keys.leases, { died: NOW - WINDOW });
      await look(two);
      expect(await redis.zscore(keys.leases, "died")).to.equal(null);
    });

    it("[D23] silent is whoever was last renewed before that time, not at it; the longest silent goes first", async () => {
      const two = { perUser: 2 };
      const since = NOW - 1000;
      await put(of, { a: since + LEASE_MS, b: since + LEASE_MS + 1 });
      await put(keys.leases, { a: since + LEASE_MS, b: since + LEASE_MS + 1 });
      expect(await take(two)).to.deep.equal([3, 0, NOW]);
      expect(await take(two, { since })).to.deep.equal([3, 0, NOW]);
      expect(await take(two, { since, over: true })).to.deep.equal([3, 0, NOW]);
      expect(await take(two, { since: since + 1 })).to.deep.equal([3, 1, NOW]);
      expect(await take(two, { since: since + 2 })).to.deep.equal([3, 2, NOW]);
      expect(await take(two, { since: since + 2, over: true })).to.deep.equal([0, "a"]);
      for (const key of [of, keys.leases])
        expect(await redis.zrange(key, "0", "-1")).to.deep.equal(["b", "new"]);
      // Where there is a free place nobody loses one.
      await redis.zrem(of, "new");
      expect(await take(two, { id: "more", since: NOW, over: true })).to.deep.equal([0, ""]);
      expect(await redis.zrange(of, "0", "-1")).to.deep.equal(["b", "more"]);
    });

    it("[D23] a user's silent place does not help where the cluster or the address has no room", async () => {
      await put(of, { a: NOW + 1 });
      await put(keys.leases, { a: NOW + 1 });
      await put(from, { a: NOW - 1 });
      const over = { since: NOW, over: true };
      expect(await take({ perUser: 1, cluster: 1 }, over)).to.deep.equal([1]);
      expect(await take({ perUser: 1, perAddressAndMinute: 1 }, over)).to.deep.equal([2, WINDOW - 1]);
      expect(await take({ perUser: 1 }, over)).to.deep.equal([0, "a"]);
    });

    it("[D23] who has a lease keeps it, however many there are; who has none needs room", async () => {
      const limits = { perUser: 2, cluster: 3 };
      await put(of, { a: NOW + 1, b: NOW + 1, c: NOW + 1 });
      await put(keys.leases, { a: NOW + 1, b: NOW + 1, c: NOW + 1, d: NOW });
      expect(await renew(limits, "a", "b", "c", "d")).to.deep.equal(["d"]);
      expect(await redis.zrange(of, "0", "-1", "WITHSCORES")).to.deep.equal(
        ["a", "b", "c"].flatMap((id) => [id, String(NOW + LEASE_MS)]),
      );
      await put(of, { b: NOW, c: NOW });
      await put(keys.leases, { b: NOW, c: NOW });
      expect(await renew(limits, "c", "b")).to.deep.equal(["b"]);
      await put(keys.leases, { x: NOW + 1, y: NOW + 1 });
      await put(of, { c: NOW });
      await put(keys.leases, { c: NOW });
      expect(await renew(limits, "c"), "the cluster is full").to.deep.equal(["c"]);
      expect(await renew({}, "c", "b")).to.deep.equal([]);
      expect(await redis.ttl(of)).to.be.within(86_000, 86_400);
    });
  });

  describe("whatever happens", () => {
    const LIMITS: SlotLimits = { cluster: 8, perUser: 3, perAddressAndMinute: 6 };
    const USERS = ["anna", "ben", "carl"];
    const ADDRESSES = ["192.0.2.1", "192.0.2.2"];
    const BEAT_MS = 5 * SECOND;

    async function world(seed: number) {
      const random = createRandom(seed);
      const times = { answer: 20, look: 4, young: -1 };
      /** A call of before would still take who did not answer it. */
      const forgotten = () => pause(2 * times.answer + 10);
      const { air, table, all } = cluster(3, LIMITS, times);
      const { pick, chance, below } = random;
      const active = () => all.filter(({ state }) => state === "active");
      const clients = () => all.filter(({ state }) => state !== "dead").flatMap((node) => [...node.clients]);
      const byUser = (user: string) => clients().filter(({ slot }) => slot.userId === user);
      /** Why a connection may lose its place now. */
      let mayLose: (client: Client) => boolean = () => false;
      const story: string[] = [];

      const heard = async () => {
        await pause(5);
        for (const { slots } of all) await slots.emptied();
      };
      const check = async () => {
        const leases = await places(keys.leases);
        expect(leases.length, "in all").to.be.at.most(LIMITS.cluster);
        const users = await Promise.all(USERS.map(ofUser));
        for (const own of users) expect(own.length, "of a user").to.be.at.most(LIMITS.perUser);
        expect(leases).to.have.members(users.flat());
        for (const address of ADDRESSES)
          expect(await redis.zcard(keys.rateLimitIp(address))).to.be.at.most(LIMITS.perAddressAndMinute);
        // Who is connected to a node that works has a place.
        for (const node of active())
          for (const { id, opened } of node.clients) if (opened) expect(leases, id).to.include(id);
      };
      /** Redis is asked what must come of it. */
      const expected = async (user: string, address: string) => {
        const time = await now();
        const leases = await places(keys.leases);
        if (leases.length >= LIMITS.cluster) return ["CLUSTER_FULL"];
        let recent = 0;
        for (const id of await redis.zrangebyscore(keys.rateLimitIp(address), `(${time - 60_000}`, "+inf")) {
          const till = await redis.zscore(keys.leases, id);
          if (till === null || Number(till) > time) recent++;
        }
        if (recent >= LIMITS.perAddressAndMinute) return ["IP_RATE_LIMITED"];
        const own = await ofUser(user);
        if (own.length < LIMITS.perUser) return ["in"];
        const present = new Set(
          active().flatMap((node) =>
            [...node.clients].flatMap((one) => (one.opened && one.alive ? one.id : [])),
          ),
        );
        return own.every((id) => present.has(id)) ? ["USER_CONNECTION_LIMIT"] : ["in"];
      };
      const come = async (
        node: Node,
        user: string,
        address: string,
        opens = chance(0.8),
        alive = chance(0.7),
      ) => {
        const came = await node.knock(user, address);
        if (came instanceof Client && opens) {
          came.alive = alive;
          came.open();
        }
        return came instanceof Client ? "in" : came;
      };
      const watch = () => {
        const before = clients();
        return () => {
          for (const one of before)
            if (one.closed && !mayLose(one))
              throw new Error(`${one.id} of ${one.slot.userId} lost its place`);
        };
      };

      const one = async (): Promise<void> => {
        const [node, user, address] = [pick(active()), pick(USERS), pick(ADDRESSES)];
        const [wanted] = await expected(user, address);
        const silent = new Set(
          byUser(user).filter((one) => !(one.opened && one.alive && one.node.state === "active")),
        );
        mayLose = (one) => silent.has(one);
        let came = await come(node, user, address);
        if (came === "USER_CONNECTION_LIMIT" && wanted === "in") {
          // It shared a call, and somebody silent has come since: that one is called for when the call is forgotten.
          await forgotten();
          came = await come(node, user, address);
        }
        story.push(`${user} at ${all.indexOf(node)} from ${address}: ${came}`);
        expect(came).to.equal(wanted);
      };
      const step = async (): Promise<void> => {
        const dice = below(100);
        mayLose = () => false;
        const lost = watch();
        if (dice < 45) await one();
        else if (dice < 52) {
          // Many at once, of one user.
          const user = pick(USERS);
          mayLose = ({ slot }) => slot.userId === user;
          const before = await ofUser(user);
          const answers = await Promise.all(
            Array.from({ length: 6 }, () => come(pick(active()), user, pick(ADDRESSES), true, true)),
          );
          story.push(`six of ${user}: ${answers}`);
          const came = answers.filter((one) => one === "in").length;
          expect(came).to.be.at.most(LIMITS.perUser);
          if (answers.every((one) => one === "in" || one === "USER_CONNECTION_LIMIT"))
            expect(came, "no free place is left").to.be.at.least(LIMITS.perUser - before.length);
        } else if (dice < 67) {
          const one = pick(clients());
          if (one?.node.state !== "active") return;
          mayLose = (other) => other === one;
          story.push(`${one.id} of ${one.slot.userId} leaves, or opens`);
          if (one.opened) one.close();
          else one.open();
          await forgotten();
        } else if (dice < 77) {
          const one = pick(clients());
          if (one) one.alive = !one.alive;
          await forgotten();
        } else if (dice < 80 && active().length > 1) {
          const node = pick(active());
          story.push(`${all.indexOf(node)} is killed`);
          node.state = "dead";
          air.nodes.splice(air.nodes.indexOf(node), 1);
          // Another one comes in its place.
          all.push(new Node(table, air, times));
        } else if (dice < 84 && active().length > 1) {
          const node = pick(active());
          story.push(`${all.indexOf(node)} is paused`);
          node.state = "paused";
        } else if (dice < 90) {
          const node = all.find(({ state }) => state === "paused");
          if (!node) return;
          story.push(`${all.indexOf(node)} goes on`);
          // What it lost meanwhile others have.
          mayLose = (one) => one.node === node;
          const had = await Promise.all(
            [...node.clients].map(async ({ id }) => redis.zscore(keys.leases, id)),
          );
          const time = await now();
          const unharmed = had.every((till) => till !== null && Number(till) > time);
          node.resume();
          // It hears the calls of meanwhile; who does not answer is not renewed while they last.
          await forgotten();
          await heard();
          const left = node.clients.size;
          await node.slots.renewAll();
          if (unharmed) expect(node.clients.size).to.equal(left);
        } else {
          const beats = 1 + below(5);
          story.push(`${beats} beats`);
          for (let n = 0; n < beats; n++) {
            await pass(BEAT_MS);
            for (const { slots } of active()) await slots.renewAll();
          }
        }
        await heard();
        lost();
      };
      return { step, check, story, all };
    }

    for (let seed = 1; seed <= 8; seed++) {
      it(`[D23] the limits hold, a free place is given, who answers loses none (${seed})`, async () => {
        const { step, check, story, all } = await world(seed);
        try {
          for (let n = 0; n < 60; n++) {
            await step();
            await check();
          }
        } catch (error) {
          throw new Error(`${error}\nafter ${story.slice(-12).join("\n      ")}`, { cause: error });
        }
        for (const { errors } of all) expect(errors).to.deep.equal([]);
      });
    }

    it("[D23] the places of a killed node are free after the lease, its address counts no more for them", async () => {
      const { at } = cluster(2, { cluster: 3, perUser: 3, perAddressAndMinute: 3 });
      for (let n = 0; n < 3; n++) await at(0).enter("anna");
      at(0).state = "dead";
      expect(await at(1).knock("ben")).to.equal("CLUSTER_FULL");
      await pass(LEASE_MS - 1 * SECOND);
      expect(await at(1).knock("ben")).to.equal("CLUSTER_FULL");
      await pass(SECOND);
      for (let n = 0; n < 3; n++) await at(1).enter("ben");
      expect(await at(1).knock("ben")).to.equal("CLUSTER_FULL");
    });
  });
});
