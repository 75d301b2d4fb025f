import type { Side } from "./clusters/cluster.js";
import type { Options } from "./options.js";
import type { Round } from "./round.js";
import { median } from "./stats.js";

type Column = { title: string; of(round: Round): number; digits: number };

const columns: Column[] = [
  { title: "P50 ms", of: ({ p50 }) => p50, digits: 2 },
  { title: "P95 ms", of: ({ p95 }) => p95, digits: 2 },
  { title: "P99 ms", of: ({ p99 }) => p99, digits: 2 },
  { title: "max ms", of: ({ max }) => max, digits: 1 },
  { title: "deliveries/s", of: ({ deliveriesPerSecond }) => deliveriesPerSecond, digits: 0 },
  { title: "node CPU µs/delivery", of: ({ nodeCpuPerDelivery }) => nodeCpuPerDelivery, digits: 1 },
  { title: "Redis CPU µs/event", of: ({ redisCpuPerEvent }) => redisCpuPerEvent, digits: 0 },
  { title: "bytes", of: ({ bytes }) => bytes, digits: 0 },
  { title: "publisher late ms", of: ({ lateMs }) => lateMs, digits: 1 },
];

const line = (label: string, cells: string[]): string =>
  [label.padEnd(14), ...cells.map((cell, i) => cell.padStart(columns[i]?.title.length ?? 0))].join("  ");

export const header = (): string =>
  line(
    "",
    columns.map(({ title }) => title),
  );

export const row = (label: string, round: Round): string =>
  line(
    label,
    columns.map(({ of, digits }) => of(round).toFixed(digits)),
  );

/** Medians of each side's rounds, and one against the other. */
export function summary(rounds: Round[]): string[] {
  const medians = (side: Side) =>
    columns.map(({ of }) => median(rounds.filter((round) => round.side === side).map(of)));
  const us = medians("us");
  const stock = medians("stock");
  const cells = (values: number[]) => values.map((value, i) => value.toFixed(columns[i]?.digits));
  const ratios = us.map((value, i) => (value / (stock[i] as number)).toFixed(2));
  return [line("us, median", cells(us)), line("stock, median", cells(stock)), line("us / stock", ratios)];
}

export const heading = ({ rate, seconds, viewers, nodes, rounds }: Options): string =>
  `Publish to browser: ${rate} events/s for ${seconds} s to each of ${viewers} viewers, ` +
  `${nodes} nodes, ${rounds} rounds of each side in turn. Stock is Socket.IO with its Redis streams adapter.`;

export const notMeasured = `Not measured: a network (everything runs on one machine, over loopback, and shares its cores with the load), TLS, a
proxy, a browser's own work (the clients are stock socket.io-client in one Node process, over WebSocket), MessagePack,
filters, replay, drops, memory, and load near the limit (the nodes are mostly idle here).
Rate limits are off: the load is above them.
Not alike: a publish of ours is also written to the snapshot, to each viewer's replay index and to the event bus, which
each node reads; our events carry a sequence_id, twice. Stock does none of that, and checks no right.`;
