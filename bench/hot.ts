import { readFileSync } from "node:fs";

// Where a node's time went: node --import=tsx bench/hot.ts <file.cpuprofile> [deliveries]
interface Profile {
  nodes: { id: number; callFrame: { functionName: string; url: string; lineNumber: number } }[];
  samples: number[];
  timeDeltas: number[];
}

const TOP = 25;
const [file, deliveries] = process.argv.slice(2);
if (!file) {
  console.error("usage: hot.ts <file.cpuprofile> [deliveries]");
  process.exit(2);
}

const { nodes, samples, timeDeltas }: Profile = JSON.parse(readFileSync(file, "utf8"));
const names = new Map<number, string>();
for (const { id, callFrame } of nodes) {
  const { functionName, url, lineNumber } = callFrame;
  const place = url.replace(/^.*\/(?=[^/]+\/[^/]+$)/, "");
  names.set(id, `${functionName || "(anonymous)"}  ${place}${place && `:${lineNumber + 1}`}`);
}
const self = new Map<string, number>();
samples.forEach((id, i) => {
  const name = names.get(id) as string;
  self.set(name, (self.get(name) ?? 0) + (timeDeltas[i] as number));
});

const busy = [...self].filter(([name]) => !name.startsWith("(idle)")).sort(([, a], [, b]) => b - a);
const total = busy.reduce((sum, [, spent]) => sum + spent, 0);
const per = (spent: number) =>
  deliveries ? `${(spent / Number(deliveries)).toFixed(2)} µs`.padStart(9) : "";
console.log(`busy ${(total / 1000).toFixed(0)} ms ${per(total)}`);
for (const [name, spent] of busy.slice(0, TOP)) {
  console.log(`${((100 * spent) / total).toFixed(1).padStart(5)} % ${per(spent)}  ${name}`);
}
