/** One server. */
export interface Endpoint {
  host: string;
  port: number;
}

/** How to come in; the same on every server. */
interface Login {
  username?: string | undefined;
  password?: string | undefined;
  /** Options of `tls.connect`; absent: no TLS. */
  tls?: object | undefined;
}

export type RedisAddress =
  | { kind: "url"; url: string }
  | ({ kind: "sentinel"; sentinels: Endpoint[]; name: string; sentinelPassword?: string | undefined } & Login)
  | ({
      kind: "cluster";
      /** Some of its servers, the others are learned from them; a function where they are not known yet. */
      nodes: Endpoint[] | (() => Endpoint[]);
      /** Where to reach a server that the cluster knows under another address. */
      nat?: (node: Endpoint) => Endpoint;
    } & Login);

/** The settings that say where Redis is: the same variables for a node and for a worker. An empty one counts as absent. */
export interface RedisSettings {
  REDIS_URL?: string | undefined;
  REDIS_SENTINELS?: string | undefined;
  REDIS_SENTINEL_NAME?: string | undefined;
  REDIS_SENTINEL_PASSWORD?: string | undefined;
  REDIS_CLUSTER_NODES?: string | undefined;
  REDIS_USERNAME?: string | undefined;
  REDIS_PASSWORD?: string | undefined;
  REDIS_TLS?: string | boolean | undefined;
}

export const DEFAULT_REDIS_URL = "redis://127.0.0.1:6379";

/** Of `host:port, [::1]:port, …`; nothing where it is no such list. */
export function parseEndpoints(text: string): Endpoint[] | undefined {
  const endpoints: Endpoint[] = [];
  for (const part of text.split(",")) {
    const [, six, name, digits] = /^(?:\[([\da-fA-F:.]+)\]|([\w.-]+)):(\d{1,5})$/.exec(part.trim()) ?? [];
    const port = Number(digits);
    if (!(port >= 1 && port <= 65_535)) return undefined;
    endpoints.push({ host: (six ?? name) as string, port });
  }
  return endpoints;
}

/** What is wrong with these together, one line each. No value stands in it. */
export function redisProblems(given: RedisSettings): string[] {
  const problems: string[] = [];
  const kinds = (["REDIS_URL", "REDIS_SENTINELS", "REDIS_CLUSTER_NODES"] as const).filter(
    (name) => given[name],
  );
  if (kinds.length > 1) problems.push(`${kinds.join(" and ")}: only one of these may be given`);
  for (const name of ["REDIS_SENTINELS", "REDIS_CLUSTER_NODES"] as const) {
    if (given[name] && !parseEndpoints(given[name]))
      problems.push(`${name} must be addresses such as 10.0.0.1:6379, separated by commas`);
  }
  if (given.REDIS_SENTINELS && !given.REDIS_SENTINEL_NAME)
    problems.push("REDIS_SENTINEL_NAME is required with REDIS_SENTINELS");
  for (const name of ["REDIS_SENTINEL_NAME", "REDIS_SENTINEL_PASSWORD"] as const) {
    if (given[name] && !given.REDIS_SENTINELS) problems.push(`REDIS_SENTINELS is required with ${name}`);
  }
  for (const name of ["REDIS_USERNAME", "REDIS_PASSWORD", "REDIS_TLS"] as const) {
    if (given[name] && !given.REDIS_SENTINELS && !given.REDIS_CLUSTER_NODES)
      problems.push(`${name} is for REDIS_SENTINELS and REDIS_CLUSTER_NODES; REDIS_URL says it itself`);
  }
  return problems;
}

/** Where Redis is, by settings without {@link redisProblems}. */
export function redisAddress(given: RedisSettings): RedisAddress {
  const login = {
    username: given.REDIS_USERNAME || undefined,
    password: given.REDIS_PASSWORD || undefined,
    tls: String(given.REDIS_TLS) === "true" ? {} : undefined,
  };
  if (given.REDIS_SENTINELS) {
    return {
      kind: "sentinel",
      sentinels: parseEndpoints(given.REDIS_SENTINELS) ?? [],
      name: given.REDIS_SENTINEL_NAME ?? "",
      sentinelPassword: given.REDIS_SENTINEL_PASSWORD || undefined,
      ...login,
    };
  }
  if (given.REDIS_CLUSTER_NODES)
    return { kind: "cluster", nodes: parseEndpoints(given.REDIS_CLUSTER_NODES) ?? [], ...login };
  return { kind: "url", url: given.REDIS_URL || DEFAULT_REDIS_URL };
}
