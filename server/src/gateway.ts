import type { Envelope } from "@agentwire/shared";
import { AGENTS_NAMESPACE, refusal } from "@agentwire/shared";
import { appendStatusChange, decodeTerminal, redisAddress, redisKeys } from "@agentwire/shared/redis";
import express from "express";
import type { Logger } from "pino";
import { type DisconnectReason, Server } from "socket.io";
import { z } from "zod";
import { openPolicy } from "./access/open.js";
import type { Config } from "./config.js";
import { createAddressRule, networkOf } from "./door/address.js";
import { answerRequest, answerUpgrade } from "./door/answer.js";
import { createEngine, listen } from "./door/engine.js";
import { openDoor } from "./door/listener.js";
import { createOriginRule } from "./door/origin.js";
import { type SlotNotice, Slots } from "./door/slots.js";
import { openVerifier } from "./door/verifier.js";
import { drain } from "./drain.js";
import { speakMessagePack } from "./gate/encoding.js";
import { openGate } from "./gate/gate.js";
import { parser } from "./gate/parser.js";
import { closeStrangers } from "./gate/rules.js";
import { Share } from "./gate/share.js";
import { SlidingLog } from "./gate/window.js";
import { Bus } from "./ingest/bus.js";
import { BusLease } from "./ingest/bus-lease.js";
import { ProgressIntake } from "./ingest/progress-intake.js";
import { publishRoute } from "./ingest/publish.js";
import { refuseRoot, serveAgents } from "./node/agents.js";
import { Expiry } from "./node/expiry.js";
import { Heartbeat } from "./node/heartbeat.js";
import { Hub } from "./node/hub.js";
import { Idle } from "./node/idle.js";
import { createJoin } from "./node/join.js";
import { Presence } from "./node/presence.js";
import { ProgressBoard } from "./node/progress.js";
import { Rights } from "./node/rights.js";
import { serveTerminals } from "./node/terminals.js";
import { BEAT_MS, Unfit, Uptime } from "./node/uptime.js";
import { type Opened, Visits } from "./node/visits.js";
import { look } from "./node/watch.js";
import { openAdminListener } from "./ops/admin/listener.js";
import { serveOperators } from "./ops/admin/operators.js";
import { createAudit } from "./ops/audit.js";
import { dashboardRoutes } from "./ops/dashboard.js";
import { healthRoutes } from "./ops/health.js";
import { createMetrics } from "./ops/metrics.js";
import { createStreamAdapter } from "./redis/adapter.js";
import { createAdminAdapter } from "./redis/admin-adapter.js";
import { AdminLogins } from "./redis/admin-logins.js";
import { AuditLog } from "./redis/audit-log.js";
import { connectRedis } from "./redis/clients.js";
import { createEvictionCheck } from "./redis/eviction.js";
import { Live } from "./redis/live.js";
import { Marker } from "./redis/marker.js";
import { Notices } from "./redis/notices.js";
import { Shares } from "./redis/share.js";
import { SlotTable } from "./redis/slots.js";
import { openStore } from "./redis/store.js";
import { streamLag } from "./redis/stream-lag.js";
import { Sweep } from "./redis/sweep.js";
import { Terminals } from "./redis/terminals.js";

// Long, because it is the only file that may know every folder: all wiring is here, and nothing else.

/** What Redis knows of a connection is as old as a ping at most, and never old against the window. */
function roundsOf({ WS_HEARTBEAT_INTERVAL, WS_REPLAY_WINDOW_SECONDS }: Config): number {
  const seconds = Math.min(WS_HEARTBEAT_INTERVAL, WS_REPLAY_WINDOW_SECONDS / 4);
  return Math.max(1, Math.floor((seconds * 1000) / BEAT_MS));
}

/** `PUBLISH ws:access:changed`: this user may see other projects than before. */
const UserNotice = z.object({ user_id: z.string() });

export interface Gateway {
  port: number;
  adminPort: number;
  /** Resolves when viewers are welcome. */
  ready: Promise<void>;
  /** Closes every connection as a transport close, and leaves nothing of this node in Redis. */
  stop(): Promise<void>;
}

/**
 * One node, put together: the only file that knows every folder.
 *
 * @param adminPortGiven whether ADMIN_PORT was set: its default gives way to another node's on the same machine
 */
export async function openGateway(config: Config, logger: Logger, adminPortGiven: boolean): Promise<Gateway> {
  const keys = redisKeys(config.WS_KEY_PREFIX, config.EVENT_BUS_PREFIX);
  const limits = {
    windowMs: config.WS_REPLAY_WINDOW_SECONDS * 1000,
    maxMessages: config.WS_MAX_REPLAY_MESSAGES,
  };
  const warn = (what: string) => (error: unknown) => logger.warn({ err: String(error) }, what);
  const redis = connectRedis(redisAddress(config), keys, logger);
  const { commands } = redis;

  const store = openStore({ redis: commands, keys, instanceId: config.INSTANCE_ID, limits });
  const marker = new Marker(commands, keys);
  const evicts = createEvictionCheck(commands, logger);
  const lease = new BusLease(commands, keys, config.INSTANCE_ID);

  const auditLog = new AuditLog(commands, keys, config.WS_AUDIT_ENTRIES);
  const audit = createAudit({
    instanceId: config.INSTANCE_ID,
    append: (records) => auditLog.append(records),
    logger,
  });

  // Who is here, and what they may see.
  const notices = new Notices(redis.notices, commands, {
    onReturn: () => rights.changed(),
    onBad: (channel, error) => logger.warn({ channel, err: String(error) }, "notice not understood"),
  });
  const slots = new Slots({
    table: new SlotTable(commands, keys, {
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

  // The road: stream → hub → connection → outbox.
  const stream = createStreamAdapter(
    redis.stream,
    keys,
    { entry: (entry) => hub.entry(entry), marker: (token) => marker.seen(token) },
    logger,
  );
  const io = new Server({
    adapter: stream.factory as never,
    parser: parser as never,
    serveClient: false,
  });
  const shares = new Shares(commands, keys, config.INSTANCE_ID);
  const share = new Share({
    limit: config.WS_RATE_LIMIT_GLOBAL,
    lease: (report) => shares.lease(report),
    giveBack: () => shares.giveBack(),
    connections: () => presence.size,
    onError: warn("share of the cluster's limit not renewed"),
  });
  const gate = openGate({
    bounds: { depth: config.WS_SEND_BUFFER_SIZE, bytes: config.WS_SEND_BUFFER_BYTES },
    perSecond: config.WS_RATE_LIMIT_PER_CONNECTION,
    ttlMs: config.WS_QUEUE_TTL * 1000,
    share,
  });
  const metrics = createMetrics({
    gate: gate.counters,
    connections: () => visits.lines(),
    terminals: () => openTerminals.size,
    state: () => uptime.state.name,
    redisUp: () => commands.status === "ready" && uptime.redisAnswers,
    streamLag: () => streamLag(commands, keys, hub.last),
    auditLost: () => audit.lost(),
  });
  const outgoing = (envelope: Envelope) => gate.frame(AGENTS_NAMESPACE, envelope);

  const join = createJoin({
    sources: store,
    outgoing,
    handledUpTo: () => hub.last,
    joined: ({ id }) => void presence.save(id).catch(warn("session not saved")),
    ended: (outcome) => metrics.replay(outcome),
    failed: ({ id }, error) => logger.warn({ connection_id: id, err: String(error) }, "join interrupted"),
  });
  const live = new Live(redis.live, warn("live channel not heard"));
  const progress = new ProgressBoard({
    watch: (project, heard, listening) => live.watch(keys.progress(project), heard, listening),
    unwatch: (project) => live.unwatch(keys.progress(project)),
    ask: (project_id) =>
      // Whoever fails here asks again when it comes up.
      void notices.publish(keys.progressAsked, { project_id }).catch(() => {}),
    outgoing,
    listenersIn: (rooms) => hub.listenersIn(rooms),
    onBad: warn("progress not understood"),
  });
  const terminals = new Terminals(commands, keys);
  const hub = new Hub({
    outgoing,
    join,
    onArrival: () => share.arrive(),
    progress,
    onRefill(because, connections) {
      if (connections === 0) return;
      metrics.refill(because);
      logger.warn({ because, connections }, "live delivery had a hole, refilling");
    },
  });
  const presence = new Presence(store, (connection) => hub.positionOf(connection), roundsOf(config));

  const uptime = new Uptime({
    async comeUp(signal) {
      const unfit = await evicts();
      if (unfit) throw new Unfit(unfit);
      await store.writeSettings();
      redis.writes();
      // Before the proof too: viewers of a node whose reader stays deaf are refilled from what is read here.
      await lookForLoss();
      await marker.prove(stream.position, signal);
      await lookForLoss();
      await notices.start();
      progress.askAll();
      await slots.renewAll();
      await presence.restoreAll();
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
    onLost: () => hub.tell("ERROR", refusal("DEGRADED")),
    onBack: () => hub.prove("redis_away"),
    logger,
  });
  const announce = () =>
    store.announce(uptime.state.name === "draining" ? "draining" : "active", port, presence.size);
  const sweep = new Sweep(commands, keys);
  const lookForLoss = async () => {
    const another = await look(hub, store);
    if (!another) return;
    await store.writeSettings();
    await slots.renewAll();
    await presence.restoreAll();
  };
  commands.on("close", () => uptime.lost(redis.reason(undefined)));

  // The ways in for workers.
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
    .use(healthRoutes(() => uptime.state.name))
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

  // The door, and behind it the namespaces.
  const beats = {
    interval: config.WS_HEARTBEAT_INTERVAL * 1000,
    timeout: config.WS_HEARTBEAT_TIMEOUT * 1000,
    maxMissed: config.WS_HEARTBEAT_MAX_MISSED,
  };
  const { http, engine } = createEngine({
    instanceId: config.INSTANCE_ID,
    maxMessageBytes: config.WS_MAX_MESSAGE_BYTES,
    pingIntervalMs: beats.interval,
    silenceMs: beats.interval * (beats.maxMissed - 1) + beats.timeout,
  });
  const address = createAddressRule(config.TRUSTED_PROXIES);
  const admitted = openDoor(http, engine, {
    rules: {
      closed: () => {
        const { name } = uptime.state;
        if (name === "draining" || name === "stopped") return refusal("DRAINING");
        return name === "ready" ? undefined : refusal("UNAVAILABLE");
      },
      origin: createOriginRule(config.CORS_ORIGINS),
      address,
      verify: openVerifier(config, warn("keys not fetched")),
      policy,
      maxFilterIds: config.WS_MAX_FILTER_IDS,
      slots,
      owner: (sid) => visits.withSession(sid)?.visitor,
    },
    onVerdict(verdict, { transport, ip, userId }) {
      metrics.handshake(verdict, transport);
      if (verdict !== "admitted") audit.note({ event: "refuse", user: userId, ip, reason: verdict });
    },
    onAbandoned: ({ connectionId }) => slots.release(connectionId),
    elsewhere: app,
    logger,
  });
  engine.on("connection", (connection) => {
    const admission = admitted(connection.request);
    // Engine.IO gives the ways in of its own no request that the door has seen.
    if (!admission) return connection.close(true);
    const { connectionId, user, ip } = admission;
    const who = { user: user.id, ip, connection: connectionId };
    const heartbeat = new Heartbeat(connection, beats);
    const visit = visits.open(connection as Opened, admission, heartbeat, ({ endedBecause }, reason) => {
      slots.release(connectionId);
      audit.note({ event: "disconnect", ...who, reason: endedBecause ?? (reason as DisconnectReason) });
    });
    audit.note({ event: "connect", ...who });
    slots.opened(connectionId, {
      answers: (withinMs) => heartbeat.answers(withinMs),
      close: () => visit.end("USER_CONNECTION_LIMIT"),
    });
    gate.guard(connection);
    closeStrangers(connection);
    if (admission.encoding === "messagepack") speakMessagePack(connection);
  });
  io.bind(engine);
  refuseRoot(io);
  serveAgents(io, {
    instanceId: config.INSTANCE_ID,
    maxFilterIds: config.WS_MAX_FILTER_IDS,
    visit: (connection) => visits.of(connection),
    subscriptionLimit: () => new SlidingLog(config.WS_SUBSCRIPTION_UPDATES_PER_SECOND),
    exit: gate.exit,
    store: { ...store, now: () => hub.continuity },
    hub,
    presence,
    onSubscribed: ({ id, userId, visitor: { ip } }, filters) =>
      audit.note({ event: "subscribe", user: userId, ip, connection: id, filters }),
    onReturned: ({ userId }, former) =>
      void slots.replace(former, userId).catch(warn("place of a former connection not freed")),
    logger,
  });

  const openTerminals = serveTerminals(io, {
    visit: (connection) => visits.of(connection),
    exit: gate.exit,
    source: {
      listen: (task, heard, listening) => live.watchBytes(keys.terminalOutput(task), heard, listening),
      deafen: (task) => live.unwatch(keys.terminalOutput(task)),
      listenToTail: (request, heard, listening) =>
        live.watchBytes(keys.terminalTail(request), heard, listening),
      deafenToTail: (request) => live.unwatch(keys.terminalTail(request)),
      decode: decodeTerminal,
      state: (task) => terminals.state(task),
      watch: (task) => terminals.watch(task),
      askTail: (task, request, from) => terminals.askTail(task, request, from),
    },
    outgoing: gate.frame,
    bytesPerSecond: config.WS_TERMINAL_BYTES_PER_SECOND,
    maxMessageBytes: config.WS_MAX_MESSAGE_BYTES,
    logger,
  });

  // The operators' door: its engine is another one, on the same Socket.IO server.
  const { ADMIN_USERNAME: username, ADMIN_PASSWORD: password } = config;
  const operators =
    username && password
      ? await serveOperators(io, {
          instanceId: config.INSTANCE_ID,
          username,
          password,
          readonly: config.ADMIN_READONLY,
          adapter: createAdminAdapter(redis.stream, keys, logger),
          logins: new AdminLogins(commands, keys, password),
          address: (req) => networkOf(address(req)),
          viewer: (connection) => visits.of(connection)?.visitor,
          logger,
        })
      : undefined;
  const admin = await openAdminListener({
    host: config.ADMIN_HOST,
    port: config.ADMIN_PORT,
    exact: adminPortGiven,
    engine: operators,
    routes: [metrics.route],
    allows: createOriginRule([]).allows,
    refuse: answerRequest,
    refuseUpgrade: answerUpgrade,
    logger,
  });

  const port = await listen(http, config.PORT, config.HOST);

  share.start();
  rights.start();
  expiry.start();
  idle.start();
  intake.start();
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
      rights.stop();
      expiry.stop();
      idle.stop();
      intake.stop();
      for (const { connection } of visits) connection.close(true);
      await Promise.allSettled([
        presence.emptied(),
        slots.emptied(),
        bus.stop(),
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
