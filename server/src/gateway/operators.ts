import type { Router } from "express";
import { networkOf } from "../door/address.js";
import { answerRequest, answerUpgrade } from "../door/answer.js";
import { createOriginRule } from "../door/origin.js";
import { openAdminListener } from "../ops/admin/listener.js";
import { serveOperators } from "../ops/admin/operators.js";
import { createAdminAdapter } from "../redis/admin-adapter.js";
import { AdminLogins } from "../redis/admin-logins.js";
import type { Entrance } from "./entrance.js";
import type { Ground } from "./ground.js";
import type { Members } from "./members.js";
import type { Road } from "./road.js";

/**
 * Where operators come in: a listener of its own, whose engine is another one on the same Socket.IO server.
 * @param exact whether ADMIN_PORT was set: its default gives way to another node's on the same machine
 */
export async function openOperatorsDoor(
  { config, keys, redis, logger }: Ground,
  { visits }: Members,
  { io }: Road,
  { address }: Entrance,
  { routes, exact }: { routes: Router[]; exact: boolean },
) {
  const { ADMIN_USERNAME: username, ADMIN_PASSWORD: password } = config;
  const operators =
    username && password
      ? await serveOperators(io, {
          instanceId: config.INSTANCE_ID,
          username,
          password,
          readonly: config.ADMIN_READONLY,
          adapter: createAdminAdapter(redis.stream, keys, logger),
          logins: new AdminLogins(redis.commands, keys, password),
          address: (req) => networkOf(address(req)),
          viewer: (connection) => visits.of(connection)?.visitor,
          logger,
        })
      : undefined;
  return openAdminListener({
    host: config.ADMIN_HOST,
    port: config.ADMIN_PORT,
    exact,
    engine: operators,
    routes,
    allows: createOriginRule([]).allows,
    refuse: answerRequest,
    refuseUpgrade: answerUpgrade,
    logger,
  });
}
