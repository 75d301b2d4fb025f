import { AGENTS_NAMESPACE, type Envelope } from "@agentwire/shared";
import { Server } from "socket.io";
import type { Config } from "../config.js";
import { openGate } from "../gate/gate.js";
import { parser } from "../gate/parser.js";
import { Share } from "../gate/share.js";
import { Hub } from "../node/hub.js";
import { createJoin, type JoinOptions } from "../node/join.js";
import { Presence } from "../node/presence.js";
import { ProgressBoard } from "../node/progress.js";
import { BEAT_MS } from "../node/uptime.js";
import { createStreamAdapter } from "../redis/adapter.js";
import { Live } from "../redis/live.js";
import { Marker } from "../redis/marker.js";
import { Shares } from "../redis/share.js";
import { Terminals } from "../redis/terminals.js";
import type { Ground } from "./ground.js";
import type { Members } from "./members.js";

/** What becomes of replays. */
interface Told {
  replayed: JoinOptions["ended"];
  /** The node missed something, and refills its connections. */
  refilled(because: string): void;
}

/** What Redis knows of a connection is as old as a ping at most, and never old against the window. */
function roundsOf({ WS_HEARTBEAT_INTERVAL, WS_REPLAY_WINDOW_SECONDS }: Config): number {
  const seconds = Math.min(WS_HEARTBEAT_INTERVAL, WS_REPLAY_WINDOW_SECONDS / 4);
  return Math.max(1, Math.floor((seconds * 1000) / BEAT_MS));
}

/** The road of a message through this node: stream → hub → connection → outbox; and what is live beside it. */
export function openRoad(ground: Ground, { notices }: Members, told: Told) {
  const { config, keys, redis, store, logger, warn } = ground;
  const { commands } = redis;
  const marker = new Marker(commands, keys);
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
    connections: () => hub.connections.size,
    onError: warn("share of the cluster's limit not renewed"),
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
    joined: ({ id }) => void presence.save(id).catch(warn("session not saved")),
    ended: told.replayed,
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
  const hub = new Hub({
    outgoing,
    join,
    onArrival: () => share.arrive(),
    progress,
    onRefill(because, connections) {
      if (connections === 0) return;
      told.refilled(because);
      logger.warn({ because, connections }, "refilling connections");
    },
  });
  const presence = new Presence(store, (connection) => hub.positionOf(connection), roundsOf(config));

  return {
    io,
    gate,
    share,
    live,
    progress,
    hub,
    presence,
    terminals: new Terminals(commands, keys),
    /** Proves that the stream is read. @throws while it is not */
    prove: (signal: AbortSignal) => marker.prove(stream.position, signal),
  };
}

export type Road = ReturnType<typeof openRoad>;
