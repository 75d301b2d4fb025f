import type { RedisKeys } from "@agentwire/shared/redis";
import type { Redis } from "ioredis";
import type { RedisBackend } from "./redis.js";
import { secrets, seenByOutsiders } from "./secrets.js";

/** How long an answer is waited for: what is looked at may hang or be gone, because a test wanted it so. */
const PATIENCE_MS = 1000;

/** Looks at what operators read in Redis, and learns which session ids were given. */
export async function lookIntoRedis(backend: Pick<RedisBackend, "client">, keys: RedisKeys): Promise<void> {
  const redis = backend.client({
    lazyConnect: true,
    retryStrategy: () => null,
    maxRetriesPerRequest: 0,
    connectTimeout: PATIENCE_MS,
    commandTimeout: PATIENCE_MS,
    disconnectTimeout: 100,
  });
  try {
    await redis.connect();
    await readAll(redis, keys);
  } catch (error) {
    seenByOutsiders(String(error), "Redis, which did not answer");
  } finally {
    redis.disconnect();
  }
}

async function readAll(redis: Redis, keys: RedisKeys): Promise<void> {
  const sessions = keys.session("");
  for (const key of await redis.keys(`${sessions}*`)) secrets.add("a session id", key.slice(sessions.length));
  for (const [, fields] of await redis.xrange(keys.audit, "-", "+")) {
    seenByOutsiders(fields.join("\n"), "the audit stream");
  }
}

/** Looks at what Prometheus gets, where the node has a door for it. */
export async function lookAtMetrics(node: { id: string; alive: boolean; adminUrl?: string }): Promise<void> {
  const { id, alive, adminUrl } = node;
  if (!alive || adminUrl === undefined) return;
  try {
    const answer = await fetch(`${adminUrl}/metrics`, { signal: AbortSignal.timeout(PATIENCE_MS) });
    seenByOutsiders(await answer.text(), "metrics");
  } catch (error) {
    seenByOutsiders(`${id}: ${error}`, "metrics, which were not given");
  }
}
