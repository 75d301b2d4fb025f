import type { RedisKeys } from "@agentwire/shared/redis";
import type { Redis } from "ioredis";
import { replies } from "./pipeline.js";

/** Writes the stream `ws:audit`, of which about the last `maxEntries` are kept. */
export class AuditLog {
  constructor(
    private readonly redis: Redis,
    private readonly keys: RedisKeys,
    private readonly maxEntries: number,
  ) {}

  /**
   * Appends these in their order, all of them or none: one entry is the fields of one record.
   * @throws what Redis answers, or that it did not; after a timeout they may stand there all the same
   */
  async append(records: readonly Record<string, string>[]): Promise<void> {
    const transaction = this.redis.multi();
    for (const record of records) {
      const fields = Object.entries(record).flat();
      transaction.xadd(this.keys.audit, "MAXLEN", "~", this.maxEntries, "*", ...fields);
    }
    await replies(transaction);
  }
}
