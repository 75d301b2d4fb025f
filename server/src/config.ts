import { randomBytes } from "node:crypto";
import { limits } from "@agentwire/shared";
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

const origin = z
  .string()
  .refine((text) => text === "*" || (URL.canParse(text) && new URL(text).origin === text), {
    error: (issue) => `${JSON.stringify(issue.input)} is not an origin such as https://app.example.com`,
  });

/** Each setting once: its name, what it may be, and what it is when absent. README's table is checked against this. */
export const settings = {
  PORT: integer(8080, 0, 65_535),
  HOST: z.string().min(1).default("0.0.0.0"),
  INSTANCE_ID: z
    .string()
    .regex(/^[A-Za-z0-9_.-]{1,64}$/, "must be 1 to 64 characters of A-Z a-z 0-9 _ . -")
    .default(() => `node-${randomBytes(4).toString("hex")}`),
  REDIS_URL: z
    .string()
    .refine(
      (text) => /^rediss?:\/\//.test(text) && URL.canParse(text),
      "must be a redis:// or rediss:// address",
    )
    .default("redis://127.0.0.1:6379"),
  JWT_SECRET: z.string({ error: "is required" }).min(1, "is required"),
  JWT_AUDIENCE: z.string().min(1).default("authenticated"),
  JWT_ISSUER: z.string().min(1).optional(),
  INTERNAL_SERVICE_KEY: list,
  CORS_ORIGINS: list.pipe(z.array(origin)),
  WS_KEY_PREFIX: z
    .string()
    .regex(/^[A-Za-z0-9_.{}-]{1,64}$/, "must be 1 to 64 characters of A-Z a-z 0-9 _ . { } -")
    .default("ws"),
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
  WS_SEND_BUFFER_SIZE: integer(limits.queueMessages, 1, 100_000),
  WS_SEND_BUFFER_BYTES: integer(limits.queueBytes, 1024, 1024 * limits.queueBytes),
  WS_MAX_FILTER_IDS: integer(limits.filterIds, 1, 1000),
  WS_MAX_MESSAGE_BYTES: integer(limits.messageBytes, 1024, 100 * limits.messageBytes),
} as const;

const Settings = z.object(settings);
export type Config = z.infer<typeof Settings>;

/**
 * Reads the settings. An empty value counts as absent, as docker compose passes `NAME=` for what is not set.
 * @throws Error with one line that names each bad setting
 */
export function readConfig(env: NodeJS.ProcessEnv): Config {
  const given = Object.fromEntries(
    Object.entries(env).filter(([name, value]) => name in settings && value !== ""),
  );
  const parsed = Settings.safeParse(given);
  if (parsed.success) return parsed.data;
  const problems = parsed.error.issues.map((issue) => `${String(issue.path[0])} ${issue.message}`);
  throw new Error(`bad settings: ${problems.join("; ")}`);
}
