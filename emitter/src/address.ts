import { AgentwireError } from "@agentwire/shared";
import {
  CLUSTER_KEY_PREFIX,
  type Endpoint,
  isInOneSlot,
  KEY_PREFIX,
  type RedisAddress,
  redisAddress,
  redisProblems,
} from "@agentwire/shared/redis";
import type { RedisClient } from "./connection.js";

/** What of ioredis' Cluster client is looked at. */
interface ClusterClient {
  isCluster: true;
  status: string;
  options: {
    redisOptions?: { username?: string; password?: string; tls?: object };
    natMap?: Record<string, Endpoint> | ((key: string) => Endpoint | null) | null;
  };
  connect(): Promise<unknown>;
  nodes(): { options: Partial<Endpoint> }[];
}

/**
 * Where Redis is; nothing for a client that is used as it is.
 *
 * Of a Cluster client only the servers and the login are used: it would publish each message on any of them, and what a
 * terminal writes would not arrive in order.
 *
 * @throws AgentwireError `BAD_REQUEST`
 */
export function addressOf(
  redis: RedisClient | RedisAddress | string | undefined,
  env: NodeJS.ProcessEnv,
): RedisAddress | undefined {
  if (redis === undefined) return addressIn(env);
  if (typeof redis === "string") return { kind: "url", url: redis };
  if ("kind" in redis) return redis;
  return isCluster(redis) ? addressOfCluster(redis) : undefined;
}

/** By the variables that nodes have too. @throws AgentwireError `BAD_REQUEST` */
export function addressIn(env: NodeJS.ProcessEnv): RedisAddress {
  const problems = redisProblems(env);
  if (problems.length > 0) throw new AgentwireError("BAD_REQUEST", problems.join("; "));
  return redisAddress(env);
}

/** @throws AgentwireError `BAD_REQUEST` where keys would not lie together */
export function keyPrefixFor(address: RedisAddress | undefined, prefix: string | undefined): string {
  if (address?.kind !== "cluster") return prefix ?? KEY_PREFIX;
  if (prefix === undefined || isInOneSlot(prefix)) return prefix ?? CLUSTER_KEY_PREFIX;
  throw new AgentwireError(
    "BAD_REQUEST",
    "the key prefix must have a part in braces in a Cluster, such as {ws}",
  );
}

function isCluster(redis: object): redis is ClusterClient {
  return "isCluster" in redis && redis.isCluster === true;
}

function addressOfCluster(cluster: ClusterClient): RedisAddress {
  const { redisOptions = {}, natMap } = cluster.options;
  const { username, password, tls } = redisOptions;
  return {
    kind: "cluster",
    nodes() {
      // It knows none before it is connected, and a lazy one connects with the first command.
      if (cluster.status === "wait") cluster.connect().catch(() => {});
      return cluster
        .nodes()
        .flatMap(({ options: { host, port } }) => (host && port ? [{ host, port: Number(port) }] : []));
    },
    nat(node) {
      const name = `${node.host}:${node.port}`;
      return (typeof natMap === "function" ? natMap(name) : natMap?.[name]) ?? node;
    },
    username,
    password,
    tls,
  };
}
