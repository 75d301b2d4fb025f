import { setTimeout as pause } from "node:timers/promises";
import type { Redis } from "ioredis";

const RETRY_MS = 200;

/**
 * The streams adapter subscribes, reads and publishes without a look at what becomes of it. A Redis that answers with an
 * error (a wrong password, a script without end) would end the process with the first rejection, and be asked to read
 * again as fast as it answers.
 */
export function outlastRefusals(stream: Redis): void {
  const duplicate = stream.duplicate.bind(stream);
  stream.duplicate = (options) => {
    const client = duplicate(options);
    const subscribe = client.subscribe.bind(client) as (...channels: unknown[]) => Promise<unknown>;
    const read = client.xread.bind(client) as (...args: unknown[]) => Promise<unknown>;
    return Object.assign(client, {
      async subscribe(...channels: unknown[]): Promise<unknown> {
        // At its end nobody needs it any more.
        while (client.status !== "end") {
          try {
            return await subscribe(...channels);
          } catch {
            await pause(RETRY_MS, undefined, { ref: false });
          }
        }
        return undefined;
      },
      async xread(...args: unknown[]): Promise<unknown> {
        try {
          return await read(...args);
        } catch (error) {
          await pause(RETRY_MS, undefined, { ref: false });
          throw error;
        }
      },
    });
  };
  const publish = stream.publish.bind(stream) as (...args: unknown[]) => Promise<number>;
  // Whoever waits for answers to it has a time limit of its own.
  Object.assign(stream, { publish: (...args: unknown[]) => publish(...args).catch(() => 0) });
}
