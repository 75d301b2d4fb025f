import { redisAddress, redisKeys, redisOpener } from "@agentwire/shared/redis";
import { Cluster, Redis, type RedisOptions } from "ioredis";
import { freePort } from "./ports.js";
import { type RedisBackend, type RedisServer, startRedis } from "./redis.js";
import { until } from "./wait.js";

const MASTERS = 3;
const SLOTS = 16_384;
const KEY = redisKeys("{ws}").epoch;

export type RedisClusterSetup = Awaited<ReturnType<typeof startRedisCluster>>;

/** A real Redis Cluster: three masters with a third of the slots each, and a replica of each. */
export async function startRedisCluster() {
  const servers: RedisServer[] = [];
  const busPorts: number[] = [];
  const clients = new Set<Redis | Cluster>();
  const stop = async (): Promise<void> => {
    for (const client of clients) client.disconnect();
    await Promise.all(servers.map((server) => server.stop()));
  };
  try {
    for (let n = 0; n < 2 * MASTERS; n++) {
      const busPort = await freePort();
      const args = [
        "--cluster-enabled",
        "yes",
        "--cluster-port",
        `${busPort}`,
        "--cluster-node-timeout",
        "1000",
      ];
      servers.push(await startRedis({ args }));
      busPorts.push(busPort);
    }
    await join(servers, busPorts);
  } catch (error) {
    await stop();
    throw error;
  }

  const settings = {
    REDIS_CLUSTER_NODES: servers
      .slice(0, MASTERS)
      .map(({ port }) => `127.0.0.1:${port}`)
      .join(","),
  };
  const open = redisOpener<Redis, RedisOptions>(Redis, redisAddress(settings), KEY);
  const asked = new Map(servers.map((server) => [server, server.client({ commandTimeout: 1000 })]));
  const isPrimary = async (client: Redis): Promise<boolean> => {
    const [role] = (await client.role()) as [string];
    return (
      role === "master" &&
      (await client.exists(KEY).then(
        () => true,
        () => false,
      ))
    );
  };

  const setup = {
    settings,
    servers,
    /** The server that has our keys, as it says itself. */
    async primary(): Promise<RedisServer> {
      for (const [server, client] of asked) {
        if (await isPrimary(client).catch(() => false)) return server;
      }
      throw new Error("no server has the slot");
    },
    /** Where each key of the cluster lies. */
    async slots(): Promise<Map<string, number>> {
      const slots = new Map<string, number>();
      for (const client of asked.values()) {
        for (const key of await client.keys("*")) slots.set(key, await client.cluster("KEYSLOT", key));
      }
      return slots;
    },
    client(options: object = {}): Redis {
      const client = open({ disconnectTimeout: 100, ...options });
      client.on("error", () => {});
      clients.add(client);
      return client;
    },
    /** As an application has it. */
    clusterClient(): Cluster {
      const client = new Cluster(servers.slice(0, 1).map(({ port }) => ({ host: "127.0.0.1", port })));
      client.on("error", () => {});
      clients.add(client);
      return client;
    },
    /** `kill -9` of the server that has our keys; returns it, for `restart`. */
    async killPrimary(): Promise<RedisServer> {
      const server = await setup.primary();
      await server.kill();
      return server;
    },
    /** It hangs; returns it, for `resume`. */
    async pausePrimary(): Promise<RedisServer> {
      const server = await setup.primary();
      server.pause();
      return server;
    },
    /** As an operator asks for it: master and replica agree, and nothing is lost. */
    async failover(): Promise<void> {
      const before = await setup.primary();
      const id = await asked.get(before)?.cluster("MYID");
      for (const client of asked.values()) {
        const mine = (await membersSeenBy(client)).find(({ flags }) => flags.includes("myself"));
        if (mine?.master === id) await client.call("CLUSTER", "FAILOVER");
      }
      await setup.switchedFrom(before);
    },
    async switchedFrom(before: RedisServer): Promise<void> {
      await until("another primary", async () => (await setup.primary().catch(() => before)) !== before);
    },
    stop,
  };
  return setup satisfies RedisBackend;
}

/** Gives each of the first servers its part of the slots, and one of the others as its replica. */
async function join(servers: RedisServer[], busPorts: number[]): Promise<void> {
  const clients = servers.map((server) => server.client());
  const ids = await Promise.all(clients.map((client) => client.cluster("MYID")));
  for (const [n, client] of clients.entries()) {
    await client.call("CLUSTER", "SET-CONFIG-EPOCH", n + 1);
    const edge = (part: number) => Math.floor((part * SLOTS) / MASTERS);
    if (n < MASTERS) await client.call("CLUSTER", "ADDSLOTSRANGE", edge(n), edge(n + 1) - 1);
  }
  for (const [n, { port }] of servers.entries())
    await clients[0]?.call("CLUSTER", "MEET", "127.0.0.1", port, busPorts[n] as number);
  const seenByAll = (what: string, condition: (members: Member[]) => boolean) =>
    until(what, async () => (await Promise.all(clients.map(membersSeenBy))).every(condition));
  await seenByAll("all have met", ({ length }) => length === servers.length);
  for (let n = MASTERS; n < servers.length; n++)
    await clients[n]?.call("CLUSTER", "REPLICATE", ids[n - MASTERS] as string);
  await seenByAll(
    "each master has a replica",
    (members) => members.filter(({ master }) => ids.includes(master)).length === servers.length - MASTERS,
  );
  const says = (client: Redis, command: () => Promise<string>, word: string) =>
    until(word, async () => (await command.call(client)).includes(word));
  await Promise.all(clients.map((client) => says(client, () => client.cluster("INFO"), "cluster_state:ok")));
  const replicas = clients.slice(MASTERS);
  await Promise.all(
    replicas.map((client) => says(client, () => client.info("replication"), "master_link_status:up")),
  );
}

interface Member {
  flags: string[];
  /** Id of the one it follows. */
  master: string;
}

async function membersSeenBy(client: Redis): Promise<Member[]> {
  const lines = String(await client.cluster("NODES"))
    .trim()
    .split("\n");
  return lines.map((line) => {
    const [, , flags = "", master = ""] = line.split(" ");
    return { flags: flags.split(","), master };
  });
}
