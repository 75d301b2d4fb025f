import { z } from "zod";
import { openPolicy } from "../access/open.js";
import { type SlotNotice, Slots } from "../door/slots.js";
import { Expiry } from "../node/expiry.js";
import { Idle } from "../node/idle.js";
import { Rights } from "../node/rights.js";
import { Visits } from "../node/visits.js";
import { Notices } from "../redis/notices.js";
import { SlotTable } from "../redis/slots.js";
import type { Ground } from "./ground.js";

/** `PUBLISH ws:access:changed`: this user may see other projects than before. */
const UserNotice = z.object({ user_id: z.string() });

/** Who is here, what place each has in the cluster, and what they may see. */
export function openMembers({ config, keys, redis, store, audit, logger, warn }: Ground) {
  const notices = new Notices(redis.notices, redis.commands, {
    onReturn: () => rights.changed(),
    onBad: (channel, error) => logger.warn({ channel, err: String(error) }, "notice not understood"),
  });
  const slots = new Slots({
    table: new SlotTable(redis.commands, keys, {
      cluster: config.WS_MAX_CONNECTIONS,
      perUser: config.WS_MAX_CONNECTIONS_PER_USER,
      perAddressAndMinute: config.WS_CONNECTIONS_PER_IP_PER_MINUTE,
    }),
    publish: (notice) => notices.publish(keys.slotNotices, notice),
    onError: warn("places of connections not kept"),
  });
  const policy = openPolicy(config, warn("connection to the database lost"));
  const visits = new Visits();
  const rights = new Rights({
    visits,
    projectsOf: (user) => policy.projectsOf(user),
    onChanged({ id, userId, projects, visitor: { ip } }, lost) {
      if (lost.length > 0) audit.note({ event: "revoke", user: userId, ip, connection: id, projects: lost });
      void store.keepAudience(new Map([[userId, projects]])).catch(warn("audience not kept"));
    },
    onError: warn("rights could not be read again"),
  });
  const expiry = new Expiry(visits);
  const idle = new Idle(visits);
  notices.on(keys.accessChanged, (notice) => rights.changed(UserNotice.parse(notice).user_id));
  notices.on(keys.slotNotices, (notice) => slots.notice(notice as SlotNotice));

  return {
    notices,
    slots,
    policy,
    visits,
    start() {
      rights.start();
      expiry.start();
      idle.start();
    },
    stop() {
      rights.stop();
      expiry.stop();
      idle.stop();
    },
  };
}

export type Members = ReturnType<typeof openMembers>;
