import type { Target } from "../load/viewer.js";

/** `ws` is the floor: bare WebSockets and nothing else. */
export type Side = "us" | "stock" | "ws";

/** Nodes and the Redis they share, each a process of its own. */
export interface Cluster {
  redis: { url: string; pid: number };
  /** The process ids of the nodes. */
  pids: number[];
  /** How viewer number `i` connects, who hears one project: viewers are spread evenly over the nodes. */
  target(i: number, project: string): Target;
  stop(): Promise<void>;
}

/** @param env of the nodes, beside what they need anyway */
export type StartCluster = (nodes: number, env: NodeJS.ProcessEnv) => Promise<Cluster>;
