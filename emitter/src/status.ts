import type { StatusChange } from "@agentwire/shared";
import {
  type Appended,
  appendStatusChange,
  parseStatusChange,
  type RedisKeys,
} from "@agentwire/shared/redis";
import type { Connection } from "./connection.js";
import type { Order } from "./order.js";
import type { Pending } from "./pending.js";
import { publishConfirmed } from "./publish.js";

/** @throws AgentwireError `INVALID_EVENT`; PublishError */
export async function agentStatus(
  { redis, failure, written }: Connection,
  keys: RedisKeys,
  order: Order,
  pending: Pending,
  input: StatusChange,
): Promise<Appended> {
  const change = parseStatusChange(input);
  return publishConfirmed({
    event_id: change.event_id,
    agent_id: change.agent_id,
    order,
    pending,
    failure,
    send: async () => {
      const appended = await appendStatusChange(redis, keys, change);
      written();
      if (!appended) throw new Error("append.lua asked for a bus lease, and none was needed");
      return appended;
    },
  });
}
