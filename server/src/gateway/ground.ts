import { redisAddress, redisKeys } from "@agentwire/shared/redis";
import type { Logger } from "pino";
import type { Config } from "../config.js";
import { createAudit } from "../ops/audit.js";
import { AuditLog } from "../redis/audit-log.js";
import { connectRedis } from "../redis/clients.js";
import { openStore } from "../redis/store.js";

/** What everything else of a node stands on: settings, the lines to Redis, what is kept there, the log and the audit. */
export function openGround(config: Config, logger: Logger) {
  const keys = redisKeys(config.WS_KEY_PREFIX, config.EVENT_BUS_PREFIX);
  const redis = connectRedis(redisAddress(config), keys, logger);
  const auditLog = new AuditLog(redis.commands, keys, config.WS_AUDIT_ENTRIES);
  return {
    config,
    keys,
    redis,
    logger,
    /** Logs an error under this heading. */
    warn: (what: string) => (error: unknown) => logger.warn({ err: String(error) }, what),
    store: openStore({
      redis: redis.commands,
      keys,
      instanceId: config.INSTANCE_ID,
      limits: {
        windowMs: config.WS_REPLAY_WINDOW_SECONDS * 1000,
        maxMessages: config.WS_MAX_REPLAY_MESSAGES,
      },
    }),
    audit: createAudit({
      instanceId: config.INSTANCE_ID,
      append: (records) => auditLog.append(records),
      logger,
    }),
  };
}

export type Ground = ReturnType<typeof openGround>;
