import { readFileSync } from "node:fs";
import { join } from "node:path";
import { expect } from "chai";
import { createCounters } from "../../server/src/gate/counters.js";
import { createMetrics } from "../../server/src/ops/metrics.js";
import { itsTable, ROOT, table } from "./docs-table.js";

const FILE = "docs/operations.md";

const { registry } = createMetrics({
  gate: createCounters(),
  connections: () => [],
  terminals: () => 0,
  state: () => "ready",
  redisUp: () => true,
  streamLag: async () => 0,
  auditLost: () => 0,
});
// prom-client's own type leaves out what every metric has.
const metrics = registry.getMetricsAsArray() as unknown as {
  name: string;
  help: string;
  labelNames: string[];
}[];
const all = new Map(metrics.map((metric) => [metric.name, metric]));
const ours = [...all.values()].filter(({ name }) => name.startsWith("agentwire_"));

describe("docs/operations.md", () => {
  itsTable(
    FILE,
    "metrics",
    table(
      ["metric", "kind", "labels", "what"],
      ours.map(({ name, help, labelNames }) => [
        `\`${name}\``,
        name.endsWith("_total") ? "counter" : "gauge",
        labelNames.map((label) => `\`${label}\``).join(", "),
        help,
      ]),
    ),
  );

  it("[contract] every metric that its text names exists", () => {
    const text = readFileSync(join(ROOT, FILE), "utf8");
    const named = [...text.matchAll(/\b(?:agentwire|process|nodejs)_[a-z0-9_]*[a-z0-9]\b/g)].map(
      ([name]) => name,
    );
    expect(new Set(named)).to.have.property("size").above(ours.length);
    expect(named.filter((name) => !all.has(name))).to.deep.equal([]);
  });

  it("[contract] every label is explained, or says it itself", () => {
    const text = readFileSync(join(ROOT, FILE), "utf8");
    const plain = ["transport", "encoding", "state", "version"];
    const labels = new Set(ours.flatMap(({ labelNames }) => labelNames));
    for (const label of labels) {
      if (!plain.includes(label)) expect(text).to.match(new RegExp(`(- |\\. )\`${label}\`: `));
    }
  });
});
