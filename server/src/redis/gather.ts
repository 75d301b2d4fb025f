import { setTimeout as pause } from "node:timers/promises";
import type { Redis } from "ioredis";

/**
 * Between two reads of the stream. A quiet stream is read at once; of a busy one each read brings several entries, and
 * what is fixed per read (two system calls, a command, a reply) is paid once for them.
 */
const GATHER_MS = 4;

/** Makes the reader that the streams adapter duplicates from this client wait before it reads again too soon. */
export function gatherReads(stream: Redis): void {
  const duplicate = stream.duplicate.bind(stream);
  stream.duplicate = (options) => {
    const reader = duplicate(options);
    const read = reader.xread.bind(reader) as (...args: unknown[]) => Promise<unknown>;
    let last = Number.NEGATIVE_INFINITY;
    const gather = async (...args: unknown[]): Promise<unknown> => {
      const early = last + GATHER_MS - performance.now();
      if (early > 0) await pause(early);
      last = performance.now();
      return read(...args);
    };
    return Object.assign(reader, { xread: gather });
  };
}
