import { randomBytes } from "node:crypto";
import { isIP } from "node:net";
import { limits } from "@agentwire/shared";
import {
  CLUSTER_KEY_PREFIX,
  DEFAULT_REDIS_URL,
  isInOneSlot,
  KEY_PREFIX,
  redisProblems,
} from "@agentwire/shared/redis";
import { z } from "zod";

const integer = (fallback: number, min: number, max: number) =>
  z
    .string()
    .regex(/^\d+$/, "must be a whole number")
    .default(String(fallback))
    .transform(Number)
    .pipe(z.number().min(min, `must be at least ${min}`).max(max, `must be at most ${max}`));

const list = z
  .string()
  .default("")
  .transform((text) =>
    text
      .split(",")
      .map((part) => part.trim())
      .filter((part) => part !== ""),
  );

const flag = (fallback: boolean) =>
  z
    .enum(["true", "false"], "must be true or false")
    .default(fallback ? "true" : "false")
    .transform((text) => text === "true");

const address = (...protocols: string[]) =>
  z
    .string()
    .refine(
      (text) => URL.canParse(text) && protocols.includes(new URL(text).protocol.slice(0, -1)),
      `must be an address that begins with ${protocols.map((name) => `${name}://`).join(" or ")}`,
    );

/** An address, or a network in CIDR notation. */
const network = z.string().refine(
  (text) => {
    const [ip = "", bits, ...more] = text.includes("%") ? [] : text.split("/");
    const most = { 0: -1, 4: 32, 6: 128 }[isIP(ip)] ?? -1;
    return (
      most > 0 &&
      more.length === 0 &&
      (bits === undefined || (/^\d{1,3}$/.test(bits) && Number(bits) <= most))
    );
  },
  { error: (issue) => `${JSON.stringify(issue.input)} is not an address or a network such as 10.0.0.0/8` },
);

const origin = z
  .string()
  .refine((text) => text === "*" || (URL.canParse(text) && new URL(text).origin === text), {
    error: (issue) => `${JSON.stringify(issue.input)} is not an origin such as https://app.example.com`,
  });

/** Each setting once: its name, what it may be, and what it is when absent. README's table is checked against this. */
export const settings = {
  PORT: integer(8080, 0, 65_535),
  HOST: z.string().min(1).default("0.0.0.0"),
  ADMIN_PORT: integer(9090, 0, 65_535),
  ADMIN_HOST: z.string().min(1).default("127.0.0.1"),
  ADMIN_USERNAME: z.string().min(1).max(256).optional(),
  ADMIN_PASSWORD: z.string().min(1).max(256).optional(),
  ADMIN_READONLY: flag(true),
  INSTANCE_ID: z
    .string()
    .regex(/^[A-Za-z0-9_.-]{1,64}$/, "must be 1 to 64 characters of A-Z a-z 0-9 _ . -")
    .default(() => `node-${randomBytes(4).toString("hex")}`),
  REDIS_URL: address("redis", "rediss").default(DEFAULT_REDIS_URL),
  // Read where a worker's are, in shared/src/redis/address.ts.
  REDIS_SENTINELS: z.string().optional(),
  REDIS_SENTINEL_NAME: z.string().optional(),
  REDIS_SENTINEL_PASSWORD: z.string().optional(),
  REDIS_CLUSTER_NODES: z.string().optional(),
  REDIS_USERNAME: z.string().optional(),
  REDIS_PASSWORD: z.string().optional(),
  REDIS_TLS: flag(false),
  JWT_SECRET: z.string().min(1).optional(),
  SUPABASE_URL: address("https", "http").optional(),
  JWT_JWKS_URL: address("https", "http").optional(),
  JWT_AUDIENCE: z.string().min(1).default("authenticated"),
  JWT_ISSUER: z.string().min(1).optional(),
  DATABASE_URL: address("postgres", "postgresql").optional(),
  DATABASE_PROJECTS_QUERY: z.string().min(1).default("select id from projects"),
  DATABASE_POOL_SIZE: integer(5, 1, 100),
  INTERNAL_SERVICE_KEY: list,
  CORS_ORIGINS: list.pipe(z.array(origin)),
  TRUSTED_PROXIES: list.pipe(z.array(network)),
  WS_KEY_PREFIX: z
    .string()
    .regex(/^[A-Za-z0-9_.{}-]{1,64}$/, "must be 1 to 64 characters of A-Z a-z 0-9 _ . { } -")
    .default(KEY_PREFIX),
  EVENT_BUS_PREFIX: z.string().max(64).default("events:"),
  LOG_LEVEL: z.enum(["trace", "debug", "info", "warn", "error", "fatal", "silent"]).default("info"),
  WS_HEARTBEAT_INTERVAL: integer(30, 1, 3600),
  WS_HEARTBEAT_TIMEOUT: integer(10, 1, 3600),
  WS_HEARTBEAT_MAX_MISSED: integer(3, 1, 100),
  WS_REPLAY_WINDOW_SECONDS: integer(limits.replayWindowMs / 1000, 1, 86_400),
  WS_MAX_REPLAY_MESSAGES: integer(limits.replayMessages, 1, 100_000),
  WS_RATE_LIMIT_PER_CONNECTION: integer(limits.messagesPerSecond, 0, 10_000),
  WS_RATE_LIMIT_GLOBAL: integer(limits.clusterMessagesPerSecond, 0, 100_000_000),
  WS_QUEUE_TTL: integer(limits.queueMs / 1000, 1, 3600),
  WS_DRAIN_TIMEOUT: integer(30, 0, 3600),
  WS_SEND_BUFFER_SIZE: integer(limits.queueMessages, 1, 100_000),
  WS_SEND_BUFFER_BYTES: integer(limits.queueBytes, 1024, 1024 * limits.queueBytes),
  WS_PROGRESS_BATCH_MS: integer(limits.progressBatchMs, 0, 60_000),
  WS_TERMINAL_BYTES_PER_SECOND: integer(
    limits.terminalBytesPerSecond,
    0,
    1024 * limits.terminalBytesPerSecond,
  ),
  WS_MAX_CONNECTIONS: integer(limits.clusterConnections, 0, 10_000_000),
  WS_MAX_CONNECTIONS_PER_USER: integer(limits.userConnections, 0, 100_000),
  WS_CONNECTIONS_PER_IP_PER_MINUTE: integer(limits.addressConnectionsPerMinute, 0, 1_000_000),
  WS_SUBSCRIPTION_UPDATES_PER_SECOND: integer(limits.subscriptionsPerSecond, 0, 10_000),
  WS_MAX_FILTER_IDS: integer(limits.filterIds, 1, 1000),
  WS_MAX_MESSAGE_BYTES: integer(limits.messageBytes, 1024, 100 * limits.messageBytes),
  WS_AUDIT_ENTRIES: integer(10_000, 1, 10_000_000),
} as const;

const Settings = z.object(settings);
export type Config = z.infer<typeof Settings>;

/** What one setting alone does not tell. */
function missing(given: NodeJS.ProcessEnv): string[] {
  const problems: string[] = [];
  if (!given.JWT_SECRET && !given.SUPABASE_URL && !given.JWT_JWKS_URL)
    problems.push("JWT_SECRET is required, or SUPABASE_URL, or JWT_JWKS_URL");
  if (given.ADMIN_USERNAME && !given.ADMIN_PASSWORD)
    problems.push("ADMIN_PASSWORD is required with ADMIN_USERNAME");
  if (given.ADMIN_PASSWORD && !given.ADMIN_USERNAME)
    problems.push("ADMIN_USERNAME is required with ADMIN_PASSWORD");
  problems.push(...redisProblems(given));
  if (given.REDIS_CLUSTER_NODES && given.WS_KEY_PREFIX && !isInOneSlot(given.WS_KEY_PREFIX))
    problems.push("WS_KEY_PREFIX must have a part in braces with REDIS_CLUSTER_NODES, such as {ws}");
  return problems;
}

/**
 * Reads the settings. An empty value counts as absent, as docker compose passes `NAME=` for what is not set.
 * @throws Error with one line that names each bad setting
 */
export function readConfig(env: NodeJS.ProcessEnv): Config {
  const given = Object.fromEntries(
    Object.entries(env).filter(([name, value]) => name in settings && value !== ""),
  );
  const parsed = Settings.safeParse(given);
  const alone = (parsed.error?.issues ?? []).map(({ path, message }) => `${String(path[0])} ${message}`);
  const problems = [...alone, ...missing(given)];
  if (parsed.success && problems.length === 0) {
    const inCluster = given.REDIS_CLUSTER_NODES && !given.WS_KEY_PREFIX;
    return { ...parsed.data, ...(inCluster && { WS_KEY_PREFIX: CLUSTER_KEY_PREFIX }) };
  }
  throw new Error(`bad settings: ${problems.join("; ")}`);
}
