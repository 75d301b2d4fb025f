import { createEmitter, type EmitterOptions } from "@agentwire/emitter";
import { openFront } from "./front.js";
import { sharedRedis } from "./redis.js";
import { onTeardown } from "./teardown.js";

export const subject = { task_id: "task-1", agent_id: "agent-1", project_id: "project-1" };

/** Emitters on a Redis of the surrounding `describe`. */
export function sharedEmitters() {
  const { server, redis, keys } = sharedRedis();
  return {
    server,
    redis,
    keys,

    /** One that the test's end closes. */
    emitterOf(options: Partial<EmitterOptions> = {}) {
      const emitter = createEmitter({ redis: server().url, ...options });
      onTeardown(() => emitter.close());
      return emitter;
    },

    /** The line from the emitter to Redis, which can be down while the nodes' is not. */
    async openLine() {
      let up = true;
      const redisServer = {
        get alive() {
          return up;
        },
        port: server().port,
      };
      const front = await openFront([redisServer], 1);
      onTeardown(() => front.close());
      return {
        url: front.url.replace("http:", "redis:"),
        down() {
          up = false;
          front.cut();
        },
        up() {
          up = true;
        },
      };
    },
  };
}
