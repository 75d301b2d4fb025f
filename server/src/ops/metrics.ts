import { codes } from "@agentwire/shared";
import express, { type Router } from "express";
import { Counter, collectDefaultMetrics, Registry } from "prom-client";
import { type GateCounts, gateMetrics } from "./metrics-gate.js";
import { type NodeSources, nodeMetrics, TRANSPORTS } from "./metrics-node.js";
import { oneOf } from "./metrics-read.js";

const OUTCOMES = ["complete", "window_exceeded", "history_lost", "trimmed"] as const;
const FINDINGS = ["behind", "gap", "lease_lost", "other_history", "redis_away"] as const;
const VERDICTS = ["admitted", ...Object.keys(codes)];

export interface MetricSources extends NodeSources {
  gate: GateCounts;
}

export interface Metrics {
  /** @param verdict `admitted`, or the code of the refusal */
  handshake(verdict: string, transport: string): void;
  replay(outcome: (typeof OUTCOMES)[number]): void;
  /** A refill of the node's connections, and why. */
  refill(because: string): void;
  render(): Promise<{ contentType: string; body: string }>;
  /** `GET /metrics` */
  route: Router;
  registry: Registry;
}

/** What is measured of one node, in a registry of its own. */
export function createMetrics(sources: MetricSources): Metrics {
  const registry = new Registry();
  gateMetrics(registry, sources.gate);
  nodeMetrics(registry, sources);
  const registers = [registry];

  const handshakes = new Counter({
    name: "agentwire_handshakes_total",
    help: "Handshakes, by verdict: admitted, or the code of the refusal.",
    labelNames: ["verdict", "transport"],
    registers,
  });
  const replays = new Counter({
    name: "agentwire_replays_total",
    help: "Replays that came to their end, by what REPLAY_END said.",
    labelNames: ["outcome"],
    registers,
  });
  const refills = new Counter({
    name: "agentwire_node_refills_total",
    help: "Times that this node refilled its connections, because it missed part of the stream, or may have.",
    labelNames: ["because"],
    registers,
  });
  // A counter that appears with its first event hides that event from rate().
  for (const transport of TRANSPORTS) handshakes.inc({ verdict: "admitted", transport }, 0);
  for (const outcome of OUTCOMES) replays.inc({ outcome }, 0);
  for (const because of FINDINGS) refills.inc({ because }, 0);
  collectDefaultMetrics({ register: registry });

  const render = async () => ({ contentType: registry.contentType, body: await registry.metrics() });
  return {
    registry,
    handshake(verdict, transport) {
      handshakes.inc({ verdict: oneOf(VERDICTS, verdict), transport: oneOf(TRANSPORTS, transport) });
    },
    replay: (outcome) => replays.inc({ outcome }),
    refill: (because) => refills.inc({ because: oneOf(FINDINGS, because) }),
    render,
    route: express.Router().get("/metrics", async (_req, res) => {
      const { contentType, body } = await render();
      res.set({ "Content-Type": contentType, "Cache-Control": "no-store" }).send(body);
    }),
  };
}
