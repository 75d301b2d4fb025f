import { setTimeout as pause } from "node:timers/promises";
import type { Logger } from "pino";
import { type AuditEntry, lostRecord, recordOf } from "./audit-record.js";

export interface AuditOptions {
  instanceId: string;
  /** Writes these in their order, or throws: then it is given them again. */
  append(records: readonly Record<string, string>[]): Promise<void>;
  logger: Logger;
}

export interface Audit {
  /** Takes an entry and returns at once: its line is logged by then, and Redis gets it soon. Never throws. */
  note(entry: AuditEntry): void;
  /** Writes what waits; waits for it for a second at most. */
  flush(): Promise<void>;
  /** How many entries are in the log only, because Redis was away for too long. */
  lost(): number;
}

const GATHER_MS = 50;
const BATCH = 100;
/** Entries that wait for Redis. */
const MAX_WAITING = 1000;
const RETRY_MS = 500;
const FLUSH_MS = 1000;
const FLUSH_RETRY_MS = 50;

/** Who came in, was refused, left, subscribed or lost a right: a line in the log, and an entry in the audit stream. */
export function createAudit({ instanceId, append, logger }: AuditOptions): Audit {
  const waiting: Record<string, string>[] = [];
  let writing: Record<string, string>[] = [];
  let lost = 0;
  /** Of the lost ones, those that an entry in the stream tells of. */
  let told = 0;
  let away = false;
  let running: Promise<void> | undefined;
  let timer: NodeJS.Timeout | undefined;

  const wakeAfter = (ms: number): void => {
    clearTimeout(timer);
    timer = setTimeout(run, ms).unref();
  };

  /** Whether Redis confirmed the next entries. */
  async function writeSome(): Promise<boolean> {
    writing = waiting.splice(0, BATCH);
    const untold = lost - told;
    const gap = untold > 0 ? lostRecord(untold, instanceId) : undefined;
    try {
      await append(gap ? [gap.fields, ...writing] : writing);
      told += untold;
      if (gap) logger.info(gap.line, "audit");
      away = false;
      return true;
    } catch (error) {
      if (!away) logger.warn({ err: String(error) }, "audit entries wait for redis");
      away = true;
      const room = MAX_WAITING - waiting.length;
      lost += Math.max(0, writing.length - room);
      waiting.unshift(...writing.slice(Math.max(0, writing.length - room)));
      return false;
    } finally {
      writing = [];
    }
  }

  async function writeAll(): Promise<void> {
    let confirmed = true;
    while (confirmed && waiting.length > 0) confirmed = await writeSome();
    running = undefined;
    if (!confirmed) wakeAfter(RETRY_MS);
  }

  async function run(): Promise<void> {
    clearTimeout(timer);
    if (!running && waiting.length > 0) running = writeAll();
    await running;
  }

  function take(entry: AuditEntry): void {
    const { fields, line } = recordOf(entry, instanceId);
    logger.info(line, "audit");
    if (waiting.length === MAX_WAITING) {
      waiting.shift();
      lost++;
    }
    waiting.push(fields);
    if (running || away) return;
    // Not in this turn of the loop, which is the caller's.
    if (waiting.length === BATCH) wakeAfter(0);
    else if (waiting.length === 1) wakeAfter(GATHER_MS);
  }

  return {
    note(entry) {
      try {
        take(entry);
      } catch (error) {
        logger.error({ err: String(error) }, "audit entry could not be taken");
      }
    },

    async flush() {
      const end = performance.now() + FLUSH_MS;
      const left = () => Math.max(0, end - performance.now());
      while ((waiting.length > 0 || running) && left() > 0) {
        await Promise.race([run(), pause(left(), undefined, { ref: false })]);
        if (waiting.length > 0) await pause(Math.min(FLUSH_RETRY_MS, left()));
      }
      const entries = waiting.length + writing.length;
      if (entries > 0) logger.warn({ entries }, "audit entries not written to redis");
    },

    lost: () => lost,
  };
}
