import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import { existsSync, mkdtempSync, rmSync } from "node:fs";
import { mkdir, readFile, rm, writeFile } from "node:fs/promises";
import { connect } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { redisKeys } from "@agentwire/shared/redis";
import { Redis } from "ioredis";
import { needs } from "./needs.js";
import { freePort } from "./ports.js";

const READY_MS = 20_000;
const SERVERS = ["/usr/bin", "/usr/local/bin", "/usr/sbin", "/opt/homebrew/bin"].flatMap((folder) => [
  join(folder, "redis-server"),
  join(folder, "valkey-server"),
]);

export interface RedisOptions {
  port?: number;
  /** Further arguments of the server, such as `["--appendonly", "yes"]`. */
  args?: string[];
  /** Whom `client()` comes in as. */
  login?: { username: string; password: string };
  /** It is a Sentinel; what it watches, as in its configuration file. */
  sentinel?: string;
}

/** What stands for Redis in a cluster of ours: one server, or several behind Sentinels or in a Redis Cluster. */
export interface RedisBackend {
  /** Settings of nodes and workers. */
  settings: NodeJS.ProcessEnv;
  /** A client of the server that has our keys; `stop` closes it. */
  client(options?: object): Redis;
  stop(): Promise<void>;
}

export type RedisServer = Awaited<ReturnType<typeof startRedis>>;

/** A real Redis server of its own, in its own folder. Whoever starts it calls `stop()`, in `after`. */
export async function startRedis({ port, args = [], login, sentinel }: RedisOptions = {}) {
  const folder = mkdtempSync(join(tmpdir(), "agentwire-redis-"));
  const usedPort = port ?? (await freePort());
  const url = `redis://127.0.0.1:${usedPort}`;
  const clients = new Set<Redis>();
  let server = await launch(usedPort, folder, args, sentinel);

  const end = async (signal: NodeJS.Signals): Promise<void> => {
    if (server.exitCode !== null || server.signalCode !== null) return;
    const exited = once(server, "exit");
    server.kill(signal);
    server.kill("SIGCONT");
    // One that runs a script without end hears nothing.
    const timer = setTimeout(() => server.kill("SIGKILL"), READY_MS / 2);
    await exited;
    clearTimeout(timer);
  };
  const emergency = () => {
    server.kill("SIGKILL");
    rmSync(folder, { recursive: true, force: true });
  };
  process.once("exit", emergency);

  return {
    url,
    settings: { REDIS_URL: url },
    port: usedPort,
    get pid(): number {
      return server.pid as number;
    },
    /** Redis hangs: connections stay, nothing answers. */
    pause: () => server.kill("SIGSTOP"),
    resume: () => server.kill("SIGCONT"),
    kill: () => end("SIGKILL"),
    /** On the same port: with what its append-only file kept, or with `empty` with nothing. */
    async restart({ empty = false }: { empty?: boolean } = {}): Promise<void> {
      await end("SIGTERM");
      if (empty) await rm(folder, { recursive: true, force: true });
      server = await launch(usedPort, folder, args, sentinel);
    },
    /** A client that `stop` closes. */
    client(options: object = {}): Redis {
      const client = new Redis(url, { disconnectTimeout: 100, ...login, ...options });
      // What a test does to the server is no error of the client; a command that fails rejects all the same.
      client.on("error", () => {});
      clients.add(client);
      return client;
    },
    async stop(): Promise<void> {
      for (const client of clients) client.disconnect();
      await end("SIGTERM");
      process.off("exit", emergency);
      await rm(folder, { recursive: true, force: true });
    },
  };
}

/**
 * One server for all tests of the surrounding `describe`, empty before each of them, with a connection to it and the
 * keys. The tests are skipped where there is no Redis.
 */
export function sharedRedis() {
  needs("REDIS");
  let started: { server: RedisServer; redis: Redis } | undefined;
  before("start Redis", async () => {
    const server = await startRedis();
    started = { server, redis: server.client() };
  });
  after("stop Redis", () => started?.server.stop());
  const running = () => {
    if (!started) throw new Error("Redis is started before the tests, not while they are declared");
    return started;
  };
  const redis = () => running().redis;
  beforeEach("empty Redis", () => redis().flushall());
  return { server: () => running().server, redis, keys: redisKeys() };
}

async function launch(
  port: number,
  folder: string,
  args: string[],
  sentinel: string | undefined,
): Promise<ChildProcess> {
  await mkdir(folder, { recursive: true });
  const log = join(folder, "redis.log");
  const common = { port, bind: "127.0.0.1", dir: folder, logfile: log };
  const settings = sentinel
    ? common
    : { ...common, save: "", appendonly: "no", "maxmemory-policy": "noeviction" };
  const given = Object.entries(settings).flatMap(([name, value]) => [`--${name}`, String(value)]);
  const before: string[] = [];
  if (sentinel) {
    // A Sentinel writes what it learns into its file.
    const file = join(folder, "sentinel.conf");
    await writeFile(file, sentinel);
    before.push(file, "--sentinel");
  }
  const server = spawn(findServer(), [...before, ...given, ...args], { stdio: "ignore" });
  let failure: Error | undefined;
  server.once("error", (error) => {
    failure = error;
  });
  for (const until = Date.now() + READY_MS; Date.now() < until; await sleep(20)) {
    if (await answersPing(port)) return server;
    if (failure || server.exitCode !== null) break;
  }
  server.kill("SIGKILL");
  const written = existsSync(log) ? await readFile(log, "utf8") : "";
  throw new Error(`Redis did not start on port ${port}: ${failure?.message ?? written}`);
}

function findServer(): string {
  const found = [process.env.AGENTWIRE_REDIS_SERVER, ...SERVERS].find((file) => file && existsSync(file));
  if (!found) throw new Error("no redis-server here: npm test installs one, or tells why it cannot");
  return found;
}

function answersPing(port: number): Promise<boolean> {
  return new Promise((resolve) => {
    const socket = connect(port, "127.0.0.1");
    socket.setTimeout(1000, () => socket.destroy());
    socket.once("connect", () => socket.write("PING\r\n"));
    socket.once("data", (data) => {
      resolve(/^(\+PONG|-NOAUTH)/.test(data.toString()));
      socket.destroy();
    });
    socket.once("error", () => resolve(false));
    socket.once("close", () => resolve(false));
  });
}
