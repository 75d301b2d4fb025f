import type { AgentStatusChanged, Envelope } from "@agentwire/shared";
import { redisKeys } from "@agentwire/shared/redis";
import type { Redis } from "ioredis";

/** What stands in the log, as anybody can read it from Redis. */
export interface LogEntry {
  id: string;
  prev: string;
  envelope: Envelope<"AGENT_STATUS_CHANGED"> & { payload: AgentStatusChanged };
}

export async function readLog(redis: Redis, prefix?: string): Promise<LogEntry[]> {
  const entries = await redis.xrange(redisKeys(prefix).events, "-", "+");
  // The stream also holds the nodes' readiness markers, which name no event before them.
  const durable = entries.filter(([, fields]) => fields.includes("prev"));
  return durable.map(([id, fields]) => {
    const field = (name: string) => fields[fields.indexOf(name) + 1] as string;
    return { id, prev: field("prev"), envelope: JSON.parse(field("data")).packet.data[1] };
  });
}
