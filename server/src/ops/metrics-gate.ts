import type { Registry } from "prom-client";
import { one, reader } from "./metrics-read.js";

/** What the gate counts, in messages but for `bytes`; the names of reasons and classes are the gate's own. */
export interface GateCounts {
  delivered: Readonly<Record<string, number>>;
  bytes: number;
  queued: number;
  dropped: Readonly<Record<string, Readonly<Record<string, number>>>>;
  merged: number;
  refilled: number;
  closedUnread: number;
}

/** What the gate has done since the node began. */
export function gateMetrics(registry: Registry, gate: GateCounts): void {
  const { count } = reader(registry);
  const byClass = (counts: Readonly<Record<string, number>>, more: Record<string, string> = {}) =>
    Object.entries(counts).map(([name, n]): [Record<string, string>, number] => [
      { ...more, class: name },
      n,
    ]);
  const single = (name: string, help: string, read: () => number) => count({ name, help }, one(read));

  count(
    {
      name: "agentwire_delivered_total",
      help: "Messages handed to the network, replays too.",
      labelNames: ["class"],
    },
    () => byClass(gate.delivered),
  );
  single("agentwire_delivered_bytes_total", "Bytes of these messages.", () => gate.bytes);
  single("agentwire_queued_total", "Messages that had to wait in a queue.", () => gate.queued);
  count(
    {
      name: "agentwire_dropped_total",
      help: "Messages that left a queue unsent; those of class log are refilled.",
      labelNames: ["reason", "class"],
    },
    () => Object.entries(gate.dropped).flatMap(([reason, counts]) => byClass(counts, { reason })),
  );
  single(
    "agentwire_merged_total",
    "Dropped messages that gave way to a newer one of the same task.",
    () => gate.merged,
  );
  single(
    "agentwire_refilled_total",
    "Messages sent from Redis to connections that had fallen behind.",
    () => gate.refilled,
  );
  single(
    "agentwire_closed_unread_total",
    "Connections closed because they did not read the answers to what they asked.",
    () => gate.closedUnread,
  );
}
