import { type ChildProcess, fork } from "node:child_process";
import { once } from "node:events";
import { fileURLToPath } from "node:url";
import { startRedis } from "../../test/harness/redis.js";
import type { Target } from "../load/viewer.js";
import type { StartCluster } from "./cluster.js";

async function startNode(file: URL, redis: string, env: NodeJS.ProcessEnv) {
  const child = fork(fileURLToPath(file), {
    // Without the loader of the bench itself: our nodes run without it too.
    execArgv: [],
    env: { PATH: process.env.PATH, REDIS_URL: redis, ...env },
  });
  const ended = once(child, "exit").then(([code]) => {
    throw new Error(`${file.pathname} ended with ${code}`);
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

/**
 * A cluster of nodes that are each one script, which says where it listens and ends when it is left alone.
 *
 * @param target how to connect to a node, given its address without a path
 */
export const forked =
  (file: URL, target: (url: string, project: string) => Target): StartCluster =>
  async (count, env) => {
    const redis = await startRedis();
    const nodes = await Promise.all(Array.from({ length: count }, () => startNode(file, redis.url, env)));
    return {
      redis,
      pids: nodes.map(({ child }) => child.pid as number),
      target: (i, project) => target(`http://127.0.0.1:${nodes[i % count]?.port}`, project),
      async stop() {
        await Promise.all(nodes.map(({ child }) => end(child)));
        await redis.stop();
      },
    };
  };
