import { createRequire } from "node:module";
import { Gauge, type Registry } from "prom-client";
import { OTHER, one, oneOf, reader } from "./metrics-read.js";

const { version } = createRequire(import.meta.url)("../../package.json") as { version: string };

export const TRANSPORTS = ["polling", "websocket"] as const;
const ENCODINGS = ["json", "messagepack"] as const;
const STATES = ["starting", "ready", "away", "draining", "stopped"] as const;

export interface NodeSources {
  /** The connections of this node. */
  connections(): Iterable<{ transport: string; encoding: string }>;
  /** Terminals that somebody on this node watches. */
  terminals(): number;
  state(): (typeof STATES)[number];
  redisUp(): boolean;
  /** Seconds; it may fail while Redis is away. */
  streamLag(): Promise<number>;
  /** Audit entries that are in the log only. */
  auditLost(): number;
}

/** The node as it is now. */
export function nodeMetrics(registry: Registry, sources: NodeSources): void {
  const { count, gauge } = reader(registry);
  gauge(
    {
      name: "agentwire_connections",
      help: "Connections of this node.",
      labelNames: ["transport", "encoding"],
    },
    () => {
      const counts = new Map(
        TRANSPORTS.flatMap((transport) => ENCODINGS.map((encoding) => [`${transport} ${encoding}`, 0])),
      );
      for (const { transport, encoding } of sources.connections()) {
        const key = `${oneOf(TRANSPORTS, transport)} ${oneOf(ENCODINGS, encoding)}`;
        counts.set(key, (counts.get(key) ?? 0) + 1);
      }
      return [...counts].map(([key, n]): [Record<string, string>, number] => {
        const [transport = OTHER, encoding = OTHER] = key.split(" ");
        return [{ transport, encoding }, n];
      });
    },
  );
  gauge(
    { name: "agentwire_terminals", help: "Terminals that somebody on this node watches." },
    one(() => sources.terminals()),
  );
  gauge(
    {
      name: "agentwire_node_state",
      help: "1 for the state of the node, 0 for others.",
      labelNames: ["state"],
    },
    () => STATES.map((state) => [{ state }, state === sources.state() ? 1 : 0]),
  );
  gauge(
    { name: "agentwire_redis_up", help: "1 while Redis answers." },
    one(() => (sources.redisUp() ? 1 : 0)),
  );
  gauge(
    { name: "agentwire_build_info", help: "1; its label says which version runs.", labelNames: ["version"] },
    () => [[{ version }, 1]],
  );
  count(
    {
      name: "agentwire_audit_lost_total",
      help: "Audit entries that are in the log only, because Redis was away.",
    },
    one(sources.auditLost),
  );
  new Gauge({
    name: "agentwire_stream_lag_seconds",
    help: "Age of the oldest event in Redis that this node has not handled, 0 when level; absent while Redis is away.",
    registers: [registry],
    async collect() {
      try {
        this.set(await sources.streamLag());
      } catch {
        // agentwire_redis_up says why; a value would be a guess.
        this.remove();
      }
    },
  });
}
