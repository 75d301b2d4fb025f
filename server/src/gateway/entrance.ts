import type { RequestListener } from "node:http";
import { type Code, refusal } from "@agentwire/shared";
import { decodeTerminal } from "@agentwire/shared/redis";
import type { DisconnectReason } from "socket.io";
import { createAddressRule } from "../door/address.js";
import { createEngine } from "../door/engine.js";
import { openDoor } from "../door/listener.js";
import { createOriginRule } from "../door/origin.js";
import { openVerifier } from "../door/verifier.js";
import { speakMessagePack } from "../gate/encoding.js";
import { closeStrangers } from "../gate/rules.js";
import { SlidingLog } from "../gate/window.js";
import { refuseRoot, serveAgents } from "../node/agents.js";
import { Heartbeat } from "../node/heartbeat.js";
import { serveTerminals } from "../node/terminals.js";
import type { Opened } from "../node/visits.js";
import type { Ground } from "./ground.js";
import type { Members } from "./members.js";
import type { Road } from "./road.js";

interface EntranceOptions {
  /** What else is asked over HTTP. */
  elsewhere: RequestListener;
  state(): string;
  judged(verdict: Code | "admitted", transport: string): void;
}

/** Where viewers come in: the door, and behind it the namespaces. */
export function openEntrance(ground: Ground, members: Members, road: Road, options: EntranceOptions) {
  const { config, keys, store, audit, logger, warn } = ground;
  const { slots, policy, visits } = members;
  const { io, gate, hub, live, presence, terminals } = road;

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
      closed() {
        const state = options.state();
        if (state === "draining" || state === "stopped") return refusal("DRAINING");
        return state === "ready" ? undefined : refusal("UNAVAILABLE");
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
      options.judged(verdict, transport);
      if (verdict !== "admitted") audit.note({ event: "refuse", user: userId, ip, reason: verdict });
    },
    onAbandoned: ({ connectionId }) => slots.release(connectionId),
    elsewhere: options.elsewhere,
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
      void presence.remove(connectionId).catch(warn("connection record could not be removed"));
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
    onJoined: (visit) => void presence.arrive(visit).catch(warn("connection could not be saved")),
    bytesPerSecond: config.WS_TERMINAL_BYTES_PER_SECOND,
    maxMessageBytes: config.WS_MAX_MESSAGE_BYTES,
    logger,
  });
  return { http, address, terminals: () => openTerminals.size };
}

export type Entrance = ReturnType<typeof openEntrance>;
