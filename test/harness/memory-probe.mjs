import { setFlagsFromString } from "node:v8";
import { runInNewContext } from "node:vm";

// Loaded into a node by test/harness/memory.ts. On SIGUSR2 it collects its garbage and says what is left, as a log line.
setFlagsFromString("--expose-gc");
const collect = runInNewContext("gc");

process.on("SIGUSR2", () => {
  collect();
  collect();
  const { heapUsed, external, rss } = process.memoryUsage();
  process.stdout.write(`${JSON.stringify({ msg: "memory", live: heapUsed + external, rss })}\n`);
});
