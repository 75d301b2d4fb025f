import { AGENTS_NAMESPACE } from "@agentwire/shared";
import { NodeProcess } from "../../test/harness/node.js";
import { freePort } from "../../test/harness/ports.js";
import { startRedis } from "../../test/harness/redis.js";
import { JWT_SECRET, token } from "../../test/harness/token.js";
import type { StartCluster } from "./cluster.js";

/** Every viewer comes from one address. */
const ONE_ADDRESS = { WS_CONNECTIONS_PER_IP_PER_MINUTE: "0" };

export const startOurs: StartCluster = async (count, env) => {
  const redis = await startRedis();
  const nodes: NodeProcess[] = [];
  const killAll = () => {
    for (const node of nodes) void node.kill();
  };
  process.once("exit", killAll);
  const stop = async () => {
    await Promise.all(nodes.map((node) => node.stop()));
    process.off("exit", killAll);
    await redis.stop();
  };

  try {
    for (let n = 1; n <= count; n++) {
      const settings = { REDIS_URL: redis.url, JWT_SECRET, ...ONE_ADDRESS, ...env };
      const node = new NodeProcess(`bench-${n}`, await freePort(), settings);
      nodes.push(node);
      node.start();
    }
    await Promise.all(nodes.map((node) => node.ready()));
  } catch (error) {
    await stop();
    throw error;
  }

  return {
    redis,
    pids: nodes.map(({ pid }) => pid),
    target: (i, project) => ({
      url: `${nodes[i % count]?.url}${AGENTS_NAMESPACE}`,
      options: { query: { token: token(`viewer-${i}`, [project]) } },
      joinedAt: "SNAPSHOT",
    }),
    stop,
  };
};
