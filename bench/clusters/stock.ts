import { type ChildProcess, fork } from "node:child_process";
import { once } from "node:events";
import { fileURLToPath } from "node:url";
import { AGENTS_NAMESPACE } from "@agentwire/shared";
import { startRedis } from "../../test/harness/redis.js";
import { PROJECT } from "../load/event.js";
import type { StartCluster } from "./cluster.js";

const NODE = fileURLToPath(new URL("../stock/node.mjs", import.meta.url));

async function startNode(redis: string, env: NodeJS.ProcessEnv) {
  const child = fork(NODE, {
    // Without the loader of the bench itself: our nodes run without it too.
    execArgv: [],
    env: { PATH: process.env.PATH, REDIS_URL: redis, ...env },
  });
  const ended = once(child, "exit").then(([code]) => {
    throw new Error(`a stock node ended with ${code}`);
  });
  const [{ port }] = await Promise.race([once(child, "message"), ended]);
  return { child, port: port as number };
}

async function end(child: ChildProcess): Promise<void> {
  if (!child.connected) return;
  const ended = once(child, "exit");
  child.disconnect();
  await ended;
}

export const startStock: StartCluster = async (count, env) => {
  const redis = await startRedis();
  const nodes = await Promise.all(Array.from({ length: count }, () => startNode(redis.url, env)));
  return {
    redis,
    pids: nodes.map(({ child }) => child.pid as number),
    target: (i) => ({
      url: `http://127.0.0.1:${nodes[i % count]?.port}${AGENTS_NAMESPACE}`,
      options: { auth: { project: PROJECT } },
      joinedAt: "connect",
    }),
    async stop() {
      await Promise.all(nodes.map(({ child }) => end(child)));
      await redis.stop();
    },
  };
};
