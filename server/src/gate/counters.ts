import type { Delivery } from "@agentwire/shared";
import type { Reason } from "./loss.js";

const reasons: Reason[] = ["backpressure", "rate_limit", "expired"];
const classes: Delivery[] = ["log", "state", "bytes", "control"];

const zeros = <K extends string>(names: readonly K[]) =>
  Object.fromEntries(names.map((name) => [name, 0])) as Record<K, number>;

/** What the gate of this node has done since it began, in messages but for `bytes`. */
export interface Counters {
  /** Handed to the network, replays too. */
  delivered: Record<Delivery, number>;
  /** Handed to the network: frames before compression on polling, as they are on WebSocket. */
  bytes: number;
  /** Had to wait in a queue first. */
  queued: number;
  /** Left the queue unsent: refilled later where it was a `log` event. */
  dropped: Record<Reason, Record<Delivery, number>>;
  /** Of the dropped: gave way to a newer one of the same task. */
  merged: number;
  /** Sent from Redis to a connection that had fallen behind. */
  refilled: number;
  /** Connections closed because they asked and asked, and did not read the answers. */
  closedUnread: number;
}

export function createCounters(): Counters {
  return {
    delivered: zeros(classes),
    bytes: 0,
    queued: 0,
    dropped: {
      ...(Object.fromEntries(reasons.map((reason) => [reason, zeros(classes)])) as Counters["dropped"]),
    },
    merged: 0,
    refilled: 0,
    closedUnread: 0,
  };
}
