import { refusal } from "@agentwire/shared";
import { Unfit, Uptime } from "../node/uptime.js";
import { look } from "../node/watch.js";
import { createEvictionCheck } from "../redis/eviction.js";
import { Sweep } from "../redis/sweep.js";
import type { Ground } from "./ground.js";
import type { Members } from "./members.js";
import type { Road } from "./road.js";
import type { WaysIn } from "./ways-in.js";

/**
 * Brings the node up when Redis is there, and keeps what Redis says about it true.
 * @param port that viewers come to
 */
export function openLifecycle(
  { keys, redis, store, logger }: Ground,
  { notices, slots, visits }: Members,
  { hub, presence, progress, prove }: Road,
  { lease, bus }: WaysIn,
  port: () => number,
) {
  const evicts = createEvictionCheck(redis.commands, logger);
  const sweep = new Sweep(redis.commands, keys);

  const announce = () =>
    store.announce(uptime.state.name === "draining" ? "draining" : "active", port(), presence.size);
  const lookForLoss = async () => {
    const another = await look(hub, store);
    if (!another) return;
    await store.writeSettings();
    await slots.renewAll();
    await presence.restoreAll();
  };
  const uptime = new Uptime({
    async comeUp(signal) {
      const unfit = await evicts();
      if (unfit) throw new Unfit(unfit);
      await store.writeSettings();
      redis.writes();
      // Before the proof too: viewers of a node whose reader stays deaf are refilled from what is read here.
      await lookForLoss();
      await prove(signal);
      await lookForLoss();
      await notices.start();
      progress.askAll();
      await slots.renewAll();
      await presence.restoreAll();
      signal.throwIfAborted();
      await announce();
      await bus.start();
    },
    async look() {
      // Written, not only read: a Redis that is full, or no primary any more, still answers what it is asked.
      await store.writeSettings();
      await lookForLoss();
      if (lease.held) await slots.compensate(await sweep.round());
    },
    async beat() {
      const wasKnown = await announce();
      await slots.renewAll();
      await presence.keepAll();
      if (wasKnown) return;
      // It was taken for dead, and others have removed what it had there.
      await presence.restoreAll();
      hub.prove("lease_lost");
    },
    reason: redis.reason,
    onLost() {
      for (const visit of visits) visit.say("ERROR", refusal("DEGRADED"));
    },
    onBack: () => hub.prove("redis_away"),
    logger,
  });
  redis.commands.on("close", () => uptime.lost(redis.reason(undefined)));
  return { uptime, announce };
}
