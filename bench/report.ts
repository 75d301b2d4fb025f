import type { Round } from "./round.js";
import type { Column } from "./table.js";

/** What more than one bench tells. */
export const columns = {
  p50: { title: "P50 ms", of: ({ p50 }) => p50, digits: 2 },
  p95: { title: "P95 ms", of: ({ p95 }) => p95, digits: 2 },
  p99: { title: "P99 ms", of: ({ p99 }) => p99, digits: 2 },
  max: { title: "max ms", of: ({ max }) => max, digits: 1 },
  pace: { title: "deliveries/s", of: ({ deliveriesPerSecond }) => deliveriesPerSecond, digits: 0 },
  node: { title: "node CPU µs/delivery", of: ({ nodeCpuPerDelivery }) => nodeCpuPerDelivery, digits: 1 },
  rest: { title: "of it at rest", of: ({ restPerDelivery }) => restPerDelivery, digits: 1 },
  redis: { title: "Redis CPU µs/event", of: ({ redisCpuPerEvent }) => redisCpuPerEvent, digits: 0 },
  bytes: { title: "bytes/delivery", of: ({ bytes }) => bytes, digits: 0 },
  memory: { title: "KiB/connection", of: (round: Round) => round.memoryPerConnection / 1024, digits: 1 },
  nodeShare: { title: "node busy %", of: ({ nodeShare }) => nodeShare * 100, digits: 0 },
  audienceShare: { title: "viewers busy %", of: ({ audienceShare }) => audienceShare * 100, digits: 0 },
  late: { title: "publisher late ms", of: ({ lateMs }) => lateMs, digits: 1 },
} satisfies Record<string, Column>;
