import type { Logger } from "pino";
import type { Config } from "./config.js";
import { listen } from "./door/engine.js";
import { drain } from "./drain.js";
import { openEntrance } from "./gateway/entrance.js";
import { openGround } from "./gateway/ground.js";
import { openLifecycle } from "./gateway/lifecycle.js";
import { openMembers } from "./gateway/members.js";
import { openOperatorsDoor } from "./gateway/operators.js";
import { openRoad } from "./gateway/road.js";
import { openWaysIn } from "./gateway/ways-in.js";
import { createMetrics } from "./ops/metrics.js";
import { streamLag } from "./redis/stream-lag.js";

export interface Gateway {
  port: number;
  adminPort: number;
  /** Resolves when viewers are welcome. */
  ready: Promise<void>;
  /** Sends every viewer elsewhere, within `WS_DRAIN_TIMEOUT`, and leaves nothing of this node in Redis. */
  stop(): Promise<void>;
}

/**
 * One node, put together: what its rooms in `gateway/` wire, and nothing but them, comes together here.
 *
 * @param adminPortGiven whether ADMIN_PORT was set: its default gives way to another node's on the same machine
 */
export async function openGateway(config: Config, logger: Logger, adminPortGiven: boolean): Promise<Gateway> {
  const ground = openGround(config, logger);
  const { redis, keys, store, audit, warn } = ground;
  const members = openMembers(ground);
  const { slots, visits, policy } = members;
  const road = openRoad(ground, members, {
    replayed: (outcome) => metrics.replay(outcome),
    refilled: (because) => metrics.refill(because),
  });
  const { hub, gate, share, presence, io } = road;
  const state = () => uptime.state.name;
  const waysIn = openWaysIn(ground, road, state);
  const { uptime, announce } = openLifecycle(ground, members, road, waysIn, () => port);
  const metrics = createMetrics({
    gate: gate.counters,
    connections: () => visits.lines(),
    terminals: () => entrance.terminals(),
    state,
    redisUp: () => redis.commands.status === "ready" && uptime.redisAnswers,
    streamLag: () => streamLag(redis.commands, keys, hub.last),
    auditLost: () => audit.lost(),
  });
  const entrance = openEntrance(ground, members, road, {
    elsewhere: waysIn.app,
    state,
    judged: (verdict, transport) => metrics.handshake(verdict, transport),
  });
  const admin = await openOperatorsDoor(ground, members, road, entrance, {
    routes: [metrics.route],
    exact: adminPortGiven,
  });
  const { http } = entrance;
  const port = await listen(http, config.PORT, config.HOST);

  share.start();
  members.start();
  waysIn.intake.start();
  return {
    port,
    adminPort: admin.port,
    ready: uptime.start(),
    async stop() {
      // It listens until the end, so that whoever comes now is told why not.
      uptime.drain();
      void announce().catch(warn("draining not announced"));
      await drain({
        visits,
        timeoutMs: config.WS_DRAIN_TIMEOUT * 1000,
        onMoving: ({ id }) => slots.vacate(id),
      });
      await uptime.stop();
      members.stop();
      waysIn.intake.stop();
      for (const { connection } of visits) connection.close(true);
      await Promise.allSettled([
        presence.emptied(),
        slots.emptied(),
        waysIn.bus.stop(),
        share.stop(),
        store.leave(),
        policy.close(),
      ]);
      admin.close();
      http.close();
      await io.close();
      await Promise.allSettled([presence.emptied(), slots.emptied(), audit.flush()]);
      http.closeAllConnections();
      redis.close();
    },
  };
}
