import { write } from "node:fs";
import { Writable } from "node:stream";
import { setTimeout as sleep } from "node:timers/promises";
import { promisify } from "node:util";

const writeTo = promisify(write);
const FULL_MS = 5;

/**
 * Our own stdout or stderr. `process.stdout` stops the whole process while nobody reads a pipe: then no signal would be
 * handed on, and our lease would run out.
 */
export function ownOutput(fd: 1 | 2): Writable {
  return new Writable({
    write(data: Buffer, _encoding, done) {
      writeAll(fd, data).then(() => done(), done);
    },
  });
}

async function writeAll(fd: number, data: Buffer): Promise<void> {
  for (let rest = data; rest.length > 0; ) {
    try {
      const { bytesWritten } = await writeTo(fd, rest);
      rest = rest.subarray(bytesWritten);
    } catch (error) {
      // Somebody who shares it has made it non-blocking, and it is full.
      if ((error as NodeJS.ErrnoException).code !== "EAGAIN") throw error;
      await sleep(FULL_MS);
    }
  }
}
