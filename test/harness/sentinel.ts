import { Redis } from "ioredis";
import { type RedisBackend, type RedisServer, startRedis } from "./redis.js";
import { until } from "./wait.js";

const NAME = "main";
const SENTINELS = 3;
const REPLICAS = 2;
/** Whom the Sentinels and the replicas come in as, so that they can be shut out and nobody else. */
const WATCHER = "watcher";
const LOGIN = { username: "app", password: "sentinel-app-0123456789abcdef" };
const SERVER = [
  ...["--user", "default", "off"],
  ...["--user", LOGIN.username, "on", `>${LOGIN.password}`, "~*", "&*", "+@all"],
  ...["--user", WATCHER, "on", `>${WATCHER}`, "~*", "&*", "+@all"],
  ...["--masteruser", WATCHER, "--masterauth", WATCHER],
  // As docs/operations.md says.
  ...["--min-replicas-to-write", "1", "--min-replicas-max-lag", "2", "--repl-diskless-sync-delay", "0"],
];

export type SentinelSetup = Awaited<ReturnType<typeof startSentinels>>;

/** A real primary with two replicas, and three Sentinels that take it for dead after a second without an answer. */
export async function startSentinels() {
  const primary = await startRedis({ args: SERVER, login: LOGIN });
  const servers = [primary];
  const sentinels: RedisServer[] = [];
  const all = () => [...sentinels, ...servers];
  const clients = new Set<Redis>();
  const stop = async (): Promise<void> => {
    for (const client of clients) client.disconnect();
    await Promise.all(all().map((server) => server.stop()));
  };

  try {
    const args = [...SERVER, "--replicaof", "127.0.0.1", String(primary.port)];
    for (let n = 0; n < REPLICAS; n++) servers.push(await startRedis({ args, login: LOGIN }));
    const sentinel = [
      `sentinel monitor ${NAME} 127.0.0.1 ${primary.port} 2`,
      `sentinel auth-user ${NAME} ${WATCHER}`,
      `sentinel auth-pass ${NAME} ${WATCHER}`,
      `sentinel down-after-milliseconds ${NAME} 1000`,
      `sentinel failover-timeout ${NAME} 3000`,
      `sentinel parallel-syncs ${NAME} ${REPLICAS}`,
    ].join("\n");
    for (let n = 0; n < SENTINELS; n++) sentinels.push(await startRedis({ sentinel }));
    await Promise.all(
      sentinels.map((one) => until("a Sentinel knows everybody", () => knowsAll(one.client()))),
    );
  } catch (error) {
    await stop();
    throw error;
  }

  const endpoints = sentinels.map(({ port }) => ({ host: "127.0.0.1", port }));
  const asked = sentinels.map((one) => one.client());
  /** The server that most Sentinels take for the primary. */
  const current = async (): Promise<RedisServer> => {
    const ports = await Promise.all(
      asked.map(
        async (one) => ((await one.call("SENTINEL", "GET-MASTER-ADDR-BY-NAME", NAME)) as string[])[1],
      ),
    );
    const found = servers.find(({ port }) => ports.filter((one) => Number(one) === port).length >= 2);
    if (!found) throw new Error(`the Sentinels do not agree: ${ports.join(", ")}`);
    return found;
  };

  const setup = {
    settings: {
      REDIS_SENTINELS: endpoints.map(({ host, port }) => `${host}:${port}`).join(","),
      REDIS_SENTINEL_NAME: NAME,
      REDIS_USERNAME: LOGIN.username,
      REDIS_PASSWORD: LOGIN.password,
    },
    servers,
    sentinels,
    primary: current,
    client(options: object = {}): Redis {
      const client = new Redis({
        sentinels: endpoints,
        name: NAME,
        ...LOGIN,
        disconnectTimeout: 100,
        ...options,
      });
      client.on("error", () => {});
      clients.add(client);
      return client;
    },
    /** `kill -9`; returns it, for `restart`. */
    async killPrimary(): Promise<RedisServer> {
      const server = await current();
      await server.kill();
      return server;
    },
    /** Hangs; returns it, for `resume`. */
    async pausePrimary(): Promise<RedisServer> {
      const server = await current();
      server.pause();
      return server;
    },
    /** The Sentinels and the replicas do not reach it any more, everybody else does; returns how to end that. */
    async cutOffPrimary(): Promise<() => Promise<unknown>> {
      const client = (await current()).client();
      await client.acl("SETUSER", WATCHER, "off");
      await client.client("KILL", "USER", WATCHER);
      return () => client.acl("SETUSER", WATCHER, "on");
    },
    /** As an operator asks for it: what is confirmed at that moment may be lost. */
    async failover(): Promise<void> {
      const before = await current();
      await asked[0]?.call("SENTINEL", "FAILOVER", NAME);
      await setup.switchedFrom(before);
    },
    async switchedFrom(before: RedisServer): Promise<void> {
      await until("another primary", async () => (await current().catch(() => before)) !== before);
    },
    stop,
  };
  return setup satisfies RedisBackend;
}

async function knowsAll(sentinel: Redis): Promise<boolean> {
  const flat = (await sentinel.call("SENTINEL", "MASTER", NAME)) as string[];
  const value = (name: string) => Number(flat[flat.indexOf(name) + 1]);
  return value("num-other-sentinels") === SENTINELS - 1 && value("num-slaves") === REPLICAS;
}
