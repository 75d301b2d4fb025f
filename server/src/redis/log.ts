import { readFileSync } from "node:fs";
import { SEQUENCE_START, type SequenceId } from "@agentwire/shared";
import { type RedisKeys, runScript, script } from "@agentwire/shared/redis";
import type { Redis } from "ioredis";
import { decodeEntry, fieldsOf, isDurable, type LogEntry } from "./entry.js";
import { replies } from "./pipeline.js";

type StreamReply = [id: SequenceId, fields: string[]][];

const READ = script(readFileSync(new URL("../../src/redis/log-read.lua", import.meta.url), "utf8"));
const PAGE = 500;

/** Entries that cannot be decoded are passed over: the reader has logged them when they came. */
function decodeAll(page: StreamReply): LogEntry[] {
  return page.flatMap(([id, flat]) => {
    const raw = fieldsOf(flat);
    if (!isDurable(raw)) return [];
    try {
      return [decodeEntry(id, raw)];
    } catch {
      return [];
    }
  });
}

/** Reads the log, `ws:events`. */
export class Log {
  constructor(
    private readonly redis: Redis,
    private readonly keys: RedisKeys,
  ) {}

  /** The entries at these ids, in their order; `undefined` where one is gone. */
  async read(ids: SequenceId[]): Promise<(LogEntry | undefined)[]> {
    const found = await runScript(this.redis, READ, [this.keys.events], ids);
    return (found as ([prev: string, epoch: string, data: string] | null)[]).map((entry, n) => {
      if (!entry) return undefined;
      const [prev, epoch, data] = entry;
      return decodeEntry(ids[n] as SequenceId, { prev, epoch, data });
    });
  }

  /** `prev` of the first durable event after this position; `undefined` when there is none. */
  async prevOfNext(after: SequenceId): Promise<SequenceId | undefined> {
    for (let from = after; ; ) {
      const page = (await this.redis.xrange(this.keys.events, `(${from}`, "+", "COUNT", 10)) as StreamReply;
      for (const [id, flat] of page) {
        const raw = fieldsOf(flat);
        if (isDurable(raw)) return raw.prev;
        from = id;
      }
      if (page.length < 10) return undefined;
    }
  }

  /** Durable events after a position, newest first, page by page. */
  async *newestFirst(after: SequenceId): AsyncGenerator<LogEntry[]> {
    for (let end = "+"; ; ) {
      const page = (await this.redis.xrevrange(
        this.keys.events,
        end,
        `(${after}`,
        "COUNT",
        PAGE,
      )) as StreamReply;
      yield decodeAll(page);
      const last = page.at(-1)?.[0];
      if (page.length < PAGE || !last) return;
      end = `(${last}`;
    }
  }

  /** Durable events after a position, oldest first, of so many entries; `last` is where the next page begins. */
  async oldestFirst(after: SequenceId, count: number) {
    const page = (await this.redis.xrange(this.keys.events, `(${after}`, "+", "COUNT", count)) as StreamReply;
    return { entries: decodeAll(page), last: page.at(-1)?.[0] ?? after, more: page.length >= count };
  }

  /** The last durable event's id, the history's name, and the clock that ids are made with. */
  async head(): Promise<{ head: SequenceId; epoch: string | null; now: number }> {
    const pipeline = this.redis.pipeline().mget(this.keys.head, this.keys.epoch).time();
    const [[head, epoch], [seconds, microseconds]] = (await replies(pipeline)) as [
      [string | null, string | null],
      [string | number, string | number],
    ];
    const now = Number(seconds) * 1000 + Math.floor(Number(microseconds) / 1000);
    return { head: head ?? SEQUENCE_START, epoch, now };
  }
}
