import { setFlagsFromString } from "node:v8";
import { runInNewContext } from "node:vm";
import type { NodeProcess } from "./node.js";
import { until } from "./wait.js";

const probe = new URL("memory-probe.mjs", import.meta.url).href;

/** Settings of a node whose {@link liveBytes} can be asked. */
export const MEASURED = { NODE_OPTIONS: `--import=${probe}` };

/**
 * What a node holds in memory, its garbage collected: heap, and the buffers beside it. What it lets go of counts no
 * more, and what the allocator keeps does not count: the resident size of a process would say neither.
 */
export async function liveBytes(node: NodeProcess): Promise<number> {
  const said = () => node.log.filter(({ msg }) => msg === "memory");
  const before = said().length;
  process.kill(node.pid, "SIGUSR2");
  const line = await until(`${node.id} says what it holds`, () => said()[before]);
  return line.live as number;
}

setFlagsFromString("--expose-gc");
const collect: () => void = runInNewContext("gc");

/** The same of this process. */
export function ownLiveBytes(): number {
  collect();
  collect();
  const { heapUsed, external } = process.memoryUsage();
  return heapUsed + external;
}
