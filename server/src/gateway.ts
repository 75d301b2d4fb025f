import { createServer } from "node:http";
import type { AddressInfo } from "node:net";
import type { Envelope } from "@agentwire/shared";
import { AGENTS_NAMESPACE, refusal } from "@agentwire/shared";
import { appendStatusChange, redisKeys } from "@agentwire/shared/redis";
import { Server as Engine } from "engine.io";
import express from "express";
import type { Logger } from "pino";
import { Server } from "socket.io";
import { claimsPolicy } from "./access/claims.js";
import type { Config } from "./config.js";
import { answerRequest } from "./door/answer.js";
import { openDoor } from "./door/listener.js";
import { createOriginRule } from "./door/origin.js";
import { createTokenVerifier } from "./door/token.js";
import { speakMessagePack } from "./gate/encoding.js";
import { openGate } from "./gate/gate.js";
import { parser } from "./gate/parser.js";
import { closeStrangers } from "./gate/rules.js";
import { Share } from "./gate/share.js";
import { SlidingLog } from "./gate/window.js";
import { Bus } from "./ingest/bus.js";
import { BusLease } from "./ingest/bus-lease.js";
import { publishRoute } from "./ingest/publish.js";
import { refuseRoot, serveAgents } from "./node/agents.js";
import { Hub } from "./node/hub.js";
import { createJoin } from "./node/join.js";
import { Presence } from "./node/presence.js";
import { BEAT_MS, Uptime } from "./node/uptime.js";
import { look } from "./node/watch.js";
import { dashboardRoutes } from "./ops/dashboard.js";
import { healthRoutes } from "./ops/health.js";
import { createStreamAdapter } from "./redis/adapter.js";
import { connectRedis } from "./redis/clients.js";
import { Marker } from "./redis/marker.js";
import { Shares } from "./redis/share.js";
import { openStore } from "./redis/store.js";

/**
 * Messages are compressed by the gate, once for everybody, each by itself. So a client is promised no context from one to
 * the next, and is asked to keep none: it costs memory for each connection.
 */
const COMPRESSION = {
  serverNoContextTakeover: true,
  clientNoContextTakeover: true,
  threshold: Number.POSITIVE_INFINITY,
};
/** A client that joined no namespace is closed after this. */
const CONNECT_TIMEOUT_MS = 10_000;

/** What Redis knows of a connection is as old as a ping at most, and never old against the window. */
function roundsOf({ WS_HEARTBEAT_INTERVAL, WS_REPLAY_WINDOW_SECONDS }: Config): number {
  const seconds = Math.min(WS_HEARTBEAT_INTERVAL, WS_REPLAY_WINDOW_SECONDS / 4);
  return Math.max(1, Math.floor((seconds * 1000) / BEAT_MS));
}

export interface Gateway {
  port: number;
  /** Resolves when viewers are welcome. */
  ready: Promise<void>;
  /** Closes every connection as a transport close, and leaves nothing of this node in Redis. */
  stop(): Promise<void>;
}

/** One node, put together: the only file that knows every folder. */
export async function openGateway(config: Config, logger: Logger): Promise<Gateway> {
  const keys = redisKeys(config.WS_KEY_PREFIX, config.EVENT_BUS_PREFIX);
  const limits = {
    windowMs: config.WS_REPLAY_WINDOW_SECONDS * 1000,
    maxMessages: config.WS_MAX_REPLAY_MESSAGES,
  };
  const redis = connectRedis(config.REDIS_URL, logger);
  const { commands } = redis;

  const store = openStore({ redis: commands, keys, instanceId: config.INSTANCE_ID, limits });
  const marker = new Marker(commands, keys);
  const lease = new BusLease(commands, keys, config.INSTANCE_ID);

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
    connectTimeout: CONNECT_TIMEOUT_MS,
  });
  const shares = new Shares(commands, keys, config.INSTANCE_ID);
  const share = new Share({
    limit: config.WS_RATE_LIMIT_GLOBAL,
    lease: (report) => shares.lease(report),
    giveBack: () => shares.giveBack(),
    connections: () => presence.size,
    onError: (error) => logger.warn({ err: String(error) }, "share of the cluster's limit not renewed"),
  });
  const gate = openGate({
    bounds: { depth: config.WS_SEND_BUFFER_SIZE, bytes: config.WS_SEND_BUFFER_BYTES },
    perSecond: config.WS_RATE_LIMIT_PER_CONNECTION,
    ttlMs: config.WS_QUEUE_TTL * 1000,
    share,
  });
  const outgoing = (envelope: Envelope) => gate.frame(AGENTS_NAMESPACE, envelope);

  const join = createJoin({
    sources: store,
    outgoing,
    handledUpTo: () => hub.last,
    joined: ({ id }) =>
      void presence.save(id).catch((error) => logger.warn({ err: String(error) }, "session not saved")),
    failed: ({ id }, error) => logger.warn({ connection_id: id, err: String(error) }, "join interrupted"),
  });
  const hub = new Hub({
    outgoing,
    join,
    onArrival: () => share.arrive(),
    onRefill(because, connections) {
      if (connections > 0) logger.warn({ because, connections }, "live delivery had a hole, refilling");
    },
  });
  const presence = new Presence(store, (connection) => hub.positionOf(connection), roundsOf(config));

  const uptime = new Uptime({
    async comeUp(signal) {
      await store.writeSettings();
      // Before the proof too: viewers of a node whose reader stays deaf are refilled from what is read here.
      await lookForLoss();
      await marker.prove(stream.position, signal);
      await lookForLoss();
      await presence.restoreAll();
      await store.announce("active", port(), presence.size);
      await bus.start();
    },
    look: () => lookForLoss(),
    async beat() {
      await store.writeSettings();
      await store.announce("active", port(), presence.size);
      await presence.keepAll();
    },
    onLost: () => hub.tell("ERROR", refusal("DEGRADED")),
    logger,
  });
  const lookForLoss = async () => {
    const another = await look(hub, store);
    if (!another) return;
    await store.writeSettings();
    await presence.restoreAll();
  };
  commands.on("close", () => uptime.lost());

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
  const app = express()
    .disable("x-powered-by")
    .use(healthRoutes(() => uptime.state.name))
    .use(
      publishRoute({
        serviceKeys: config.INTERNAL_SERVICE_KEY,
        refuse: answerRequest,
        maxBytes: config.WS_MAX_MESSAGE_BYTES,
        append: (change) => appendStatusChange(commands, keys, change),
        logger,
      }),
    )
    .use(dashboardRoutes());

  // The door, and behind it the namespaces.
  const interval = config.WS_HEARTBEAT_INTERVAL * 1000;
  const engine = new Engine({
    maxHttpBufferSize: config.WS_MAX_MESSAGE_BYTES,
    perMessageDeflate: COMPRESSION,
    pingInterval: interval,
    pingTimeout: interval * (config.WS_HEARTBEAT_MAX_MISSED - 1) + config.WS_HEARTBEAT_TIMEOUT * 1000,
  });
  // A token that names hundreds of projects is longer than what Node takes by itself.
  const http = createServer({ maxHeaderSize: 65_536 });
  const admitted = openDoor(
    http,
    engine,
    {
      closed: () => {
        if (uptime.state.name === "stopped") return refusal("DRAINING");
        return uptime.state.name === "ready" ? undefined : refusal("UNAVAILABLE");
      },
      origin: createOriginRule(config.CORS_ORIGINS),
      verify: createTokenVerifier({
        secret: config.JWT_SECRET,
        audience: config.JWT_AUDIENCE,
        issuer: config.JWT_ISSUER,
      }),
      policy: claimsPolicy,
      maxFilterIds: config.WS_MAX_FILTER_IDS,
    },
    app,
    logger,
  );
  engine.on("connection", (connection) => {
    gate.guard(connection);
    closeStrangers(connection);
    if (admitted(connection.request)?.encoding === "messagepack") speakMessagePack(connection);
  });
  io.bind(engine);
  refuseRoot(io);
  const agents = serveAgents(io, {
    instanceId: config.INSTANCE_ID,
    maxFilterIds: config.WS_MAX_FILTER_IDS,
    subscriptionLimit: () => new SlidingLog(config.WS_SUBSCRIPTION_UPDATES_PER_SECOND),
    visitor: admitted,
    exit: gate.exit,
    store: { ...store, now: () => hub.continuity },
    hub,
    presence,
    logger,
  });

  await new Promise<void>((resolve, reject) => {
    http.once("error", reject).listen(config.PORT, config.HOST, resolve);
  });
  const port = () => (http.address() as AddressInfo).port;

  share.start();
  return {
    port: port(),
    ready: uptime.start(),
    async stop() {
      http.close();
      await uptime.stop();
      for (const id of presence.ids()) agents.sockets.get(id)?.conn.close(true);
      await Promise.allSettled([presence.emptied(), bus.stop(), share.stop(), store.leave()]);
      await io.close();
      http.closeAllConnections();
      redis.close();
    },
  };
}
