import { setTimeout as pause } from "node:timers/promises";
import { redisKeys } from "@agentwire/shared/redis";
import { expect } from "chai";
import type { Redis } from "ioredis";
import { judgeHandshake } from "../../server/src/door/handshake.js";
import { type Slot, type SlotNotice, Slots } from "../../server/src/door/slots.js";
import { type SlotLimits, SlotTable } from "../../server/src/redis/slots.js";
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
});
