import { pino } from "pino";
import { type AuditOptions, createAudit } from "../../server/src/ops/audit.js";
import type { AuditEntry } from "../../server/src/ops/audit-record.js";

type Line = Record<string, unknown>;
export type Fields = Record<string, string>;

export const INSTANCE = "node-1";

/** A node's log, in memory. */
export function openLog() {
  const texts: string[] = [];
  const logger = pino({ timestamp: pino.stdTimeFunctions.isoTime }, { write: (text) => texts.push(text) });
  return {
    logger,
    texts,
    said: (msg: string): Line[] => texts.map((text) => JSON.parse(text)).filter((line) => line.msg === msg),
  };
}

/** An audit whose `append` is given here. */
export function auditTo(append: AuditOptions["append"]) {
  const log = openLog();
  return { log, audit: createAudit({ instanceId: INSTANCE, append, logger: log.logger }) };
}

export const numbered = (n: number): AuditEntry => ({ event: "connect", ip: "127.0.0.1", user: `user-${n}` });
