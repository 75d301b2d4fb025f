import { setTimeout as sleep } from "node:timers/promises";
import { limits } from "@agentwire/shared";
import { isElsewhere } from "@agentwire/shared/redis";
import { PublishError } from "./errors.js";
import type { Order } from "./order.js";
import type { Pending } from "./pending.js";

/** Answers of Redis that pass by themselves: starting, failing over, busy, full. */
const PASSING = /^(?:EXECABORT .*: )?(LOADING|MASTERDOWN|CLUSTERDOWN|TRYAGAIN|NOREPLICAS|BUSY|MISCONF|OOM)\b/;

const FIRST_PAUSE_MS = 10;
const LONGEST_PAUSE_MS = 200;

export interface Publish<T> {
  event_id: string;
  agent_id: string;
  /** Sends it once. Repeated when the connection failed, so it must be safe to repeat. */
  send(): Promise<T>;
  /** Why there is no connection, where the sender knows better than the error of `send`. */
  failure(): Error | undefined;
  order: Order;
  pending: Pending;
}

/**
 * Settles within a second, whatever Redis does: with Redis' answer, or with a {@link PublishError}: `UNAVAILABLE`
 * where a repeat helps, at once where too many wait already; `INTERNAL` where Redis answered with an error that will
 * come again.
 */
export async function publishConfirmed<T>(publish: Publish<T>): Promise<T> {
  const { event_id, agent_id, order, pending } = publish;
  let over = false;
  let failure: unknown;
  let place = order.isHeld(agent_id) ? order.join(agent_id) : undefined;

  const untilConfirmed = async (): Promise<T> => {
    await place?.turn;
    for (let pause = FIRST_PAUSE_MS; ; pause = Math.min(pause * 2, LONGEST_PAUSE_MS)) {
      // The caller was told that it failed: from here on a repeat is the caller's decision.
      if (over) throw failure;
      try {
        return await publish.send();
      } catch (error) {
        if (isLasting(error)) {
          throw new PublishError("INTERNAL", event_id, `Redis refused: ${error.message}`, { cause: error });
        }
        failure = error;
      }
      if (over) throw failure;
      place ??= order.join(agent_id);
      await place.turn;
      await sleep(pause);
    }
  };

  let timer: NodeJS.Timeout | undefined;
  const deadline = new Promise<never>((_, reject) => {
    timer = setTimeout(() => {
      const cause = publish.failure() ?? failure;
      const why = cause instanceof Error ? `: ${cause.message}` : "";
      const message = `Redis did not confirm within ${limits.publishTimeoutMs} ms${why}`;
      reject(new PublishError("UNAVAILABLE", event_id, message, { cause }));
    }, limits.publishTimeoutMs);
  });

  try {
    return await Promise.race([pending.run(event_id, untilConfirmed), deadline]);
  } finally {
    over = true;
    clearTimeout(timer);
    place?.leave();
  }
}

/** An error that Redis itself answered, and would answer again. */
export function isLasting(error: unknown): error is Error {
  if (!(error instanceof Error) || error.name !== "ReplyError") return false;
  // Of a transaction: what it says itself is only that there were errors.
  const { previousErrors: causes = [error] } = error as { previousErrors?: Error[] };
  return !causes.some((cause) => PASSING.test(cause.message) || isElsewhere(cause));
}
