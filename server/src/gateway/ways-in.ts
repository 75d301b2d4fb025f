import { appendStatusChange } from "@agentwire/shared/redis";
import express from "express";
import { answerRequest } from "../door/answer.js";
import { Bus } from "../ingest/bus.js";
import { BusLease } from "../ingest/bus-lease.js";
import { ProgressIntake } from "../ingest/progress-intake.js";
import { publishRoute } from "../ingest/publish.js";
import { dashboardRoutes } from "../ops/dashboard.js";
import { healthRoutes } from "../ops/health.js";
import type { Ground } from "./ground.js";
import type { Road } from "./road.js";

/** The ways in for workers: the event bus, and HTTP with what else is asked over it. */
export function openWaysIn({ config, keys, redis, store, logger }: Ground, road: Road, state: () => string) {
  const { commands } = redis;
  const { live, terminals } = road;
  const lease = new BusLease(commands, keys, config.INSTANCE_ID);
  const bus = new Bus({
    subscriber: redis.bus,
    keys,
    lease,
    maxBytes: config.WS_MAX_MESSAGE_BYTES,
    appendedSince: (ms) => store.eventIdsSince(ms),
    append: (change) => appendStatusChange(commands, keys, change, lease.holder),
    logger,
  });
  const intake = new ProgressIntake({
    keys,
    isHolder: () => lease.held,
    listen: (channel, heard) => live.watch(channel, heard, () => {}),
    deafen: (channel) => live.unwatch(channel),
    publish: (channel, text) => commands.publish(channel, text),
    batchMs: config.WS_PROGRESS_BATCH_MS,
    maxBytes: config.WS_MAX_MESSAGE_BYTES,
    logger,
  });
  const app = express()
    .disable("x-powered-by")
    .use(healthRoutes(state))
    .use(
      publishRoute({
        serviceKeys: config.INTERNAL_SERVICE_KEY,
        refuse: answerRequest,
        maxBytes: config.WS_MAX_MESSAGE_BYTES,
        append: (change) => appendStatusChange(commands, keys, change),
        reason: redis.reason,
        report: (report) => intake.report(report),
        say: ({ task_id, project_id, payload }) => terminals.say(task_id, project_id, payload),
        logger,
      }),
    )
    .use(dashboardRoutes());
  return { lease, bus, intake, app };
}

export type WaysIn = ReturnType<typeof openWaysIn>;
