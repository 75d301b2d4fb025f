import { createEmitter } from "@agentwire/emitter";
import { CLUSTER_KEY_PREFIX, redisAddress, redisKeys } from "@agentwire/shared/redis";
import { type Front, openFront } from "./front.js";
import { NodeProcess } from "./node.js";
import { lookAtMetrics, lookIntoRedis } from "./outsiders.js";
import { freePort } from "./ports.js";
import { type RedisBackend, type RedisServer, startRedis } from "./redis.js";
import { seenByOutsiders } from "./secrets.js";
import { keepBeyondTest, onTeardown } from "./teardown.js";
import { JWT_SECRET, SERVICE_KEY } from "./token.js";
import { Viewer, type ViewerOptions } from "./viewer.js";

export interface ClusterOptions<R extends RedisBackend = RedisServer> {
  nodes: number;
  /** Redis as Sentinels or a Redis Cluster have it; one server where it is not given. */
  redis?: () => Promise<R>;
  /** Settings of every node, beyond those the harness gives. */
  settings?: NodeJS.ProcessEnv;
  redisArgs?: string[];
  /** Returns before the nodes are ready. */
  notReady?: boolean;
  /** What is done to Redis before the first node is started. */
  beforeNodes?: (redis: R) => Promise<void>;
}

/** For loads that are above the rate limits on purpose, where something else is tested. */
export const UNLIMITED = { WS_RATE_LIMIT_PER_CONNECTION: "0", WS_RATE_LIMIT_GLOBAL: "0" };

/** All viewers of a test come from one address, and many are one user's: where it tests something else, that is right. */
export const ONE_ADDRESS = { WS_CONNECTIONS_PER_IP_PER_MINUTE: "0", WS_MAX_CONNECTIONS_PER_USER: "0" };

export type Cluster<R extends RedisBackend = RedisServer> = Awaited<ReturnType<typeof startCluster<R>>>;

/** A real cluster of its own: processes, Redis, sockets. It is taken down after the test that started it. */
export async function startCluster<R extends RedisBackend = RedisServer>(options: ClusterOptions<R>) {
  const { nodes: count, settings = {}, redisArgs = [], notReady, beforeNodes } = options;
  // Without `redis` nobody has said what `R` is, and it is one server.
  const redis = await (options.redis?.() ??
    (startRedis({ args: redisArgs }) as Promise<unknown> as Promise<R>));
  onTeardown(() => redis.stop());
  const usual = redis.settings.REDIS_CLUSTER_NODES ? CLUSTER_KEY_PREFIX : undefined;
  const keys = redisKeys(settings.WS_KEY_PREFIX ?? usual);
  onTeardown(() => lookIntoRedis(redis, keys));
  await beforeNodes?.(redis);

  const nodes: NodeProcess[] = [];
  for (let n = 1; n <= count; n++) {
    nodes.push(
      new NodeProcess(`node-${n}`, await freePort(), {
        ...redis.settings,
        JWT_SECRET,
        INTERNAL_SERVICE_KEY: SERVICE_KEY,
        ...ONE_ADDRESS,
        ...settings,
      }),
    );
  }
  for (const node of nodes) {
    node.start();
    onTeardown(() => node.kill());
  }
  onTeardown(async () => {
    await Promise.all(nodes.map(lookAtMetrics));
  });
  if (!notReady) await Promise.all(nodes.map((node) => node.ready()));

  const node = (n: number): NodeProcess => {
    const found = nodes[n - 1];
    if (!found) throw new Error(`there is no node ${n}`);
    return found;
  };
  const fronts = new Map<number, Promise<Front>>();
  /** An address that prefers node `n` and falls back to the next one that lives. */
  const front = (n = 1): Promise<Front> => {
    let opened = fronts.get(n);
    if (!opened) {
      opened = openFront(nodes, n - 1);
      fronts.set(n, opened);
      onTeardown(async () => {
        fronts.delete(n);
        await (await opened)?.close();
      });
    }
    return opened;
  };

  return {
    redis,
    nodes,
    keys,
    node,
    front,
    client: () => redis.client(),

    /** A stock client that prefers node `on`; wait for `joined()`. */
    async viewer({ on = 1, ...options }: ViewerOptions & { on?: number } = {}): Promise<Viewer> {
      const viewer = new Viewer((await front(on)).url, options);
      onTeardown(() => {
        viewer.socket.disconnect();
      });
      return viewer;
    },

    /** A worker's emitter; it has another way to Redis where that is given. */
    worker(url?: string) {
      const emitter = createEmitter({ redis: url ?? redisAddress(redis.settings) });
      onTeardown(() => emitter.close());
      return emitter;
    },

    /** A service that publishes over HTTP. */
    async post(
      body: unknown,
      { to = 1, key = SERVICE_KEY as string | null, raw = false } = {},
    ): Promise<Response> {
      const answer = await fetch(`${node(to).url}/api/v1/internal/ws/publish`, {
        method: "POST",
        headers: {
          "Content-Type": "application/json",
          ...(key !== null && { "X-Internal-Service-Key": key }),
        },
        body: raw ? String(body) : JSON.stringify(body),
      });
      seenByOutsiders(await answer.clone().text());
      return answer;
    },

    /** Stops every node as a deploy would, and checks that nothing of those nodes is left in Redis. */
    async stopCleanly(): Promise<void> {
      const stopped = nodes.filter((one) => one.alive);
      await Promise.all(stopped.map((one) => one.stop()));
      const client = redis.client();
      for (const { id, exitCode } of stopped) {
        if (exitCode !== 0) throw new Error(`${id} ended with ${exitCode}`);
        const left = await client.keys(`${keys.instance(id)}*`);
        for (const key of await client.keys(keys.connection("*"))) {
          if (key.startsWith(keys.userConnections(""))) continue;
          if ((await client.hget(key, "instance_id")) === id) left.push(key);
        }
        if (left.length > 0) throw new Error(`${id} left in Redis: ${left.join(", ")}`);
      }
    },
  };
}

/** One cluster for all tests of the surrounding `describe`. */
export function sharedCluster<R extends RedisBackend = RedisServer>(
  options: ClusterOptions<R>,
): () => Cluster<R> {
  let started: { value: Cluster<R>; undo(): Promise<void> } | undefined;
  before("start the cluster", async () => {
    started = await keepBeyondTest(() => startCluster(options));
  });
  after("stop the cluster", () => started?.undo());
  return () => {
    if (!started) throw new Error("the cluster is started before the tests, not while they are declared");
    return started.value;
  };
}
