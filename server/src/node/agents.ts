import {
  AGENTS_NAMESPACE,
  type ClientToServerEvents,
  type Filters,
  type ServerToClientEvents,
} from "@agentwire/shared";
import type { Logger } from "pino";
import type { Namespace, Server, Socket } from "socket.io";
import { connectError } from "./connect-error.js";
import { Connection, type Exit } from "./connection.js";
import type { Hub } from "./hub.js";
import { type Heard, hear, judgeObject } from "./input.js";
import type { Presence } from "./presence.js";
import { roomsOf } from "./rooms.js";
import { type Subscriber, takeSubscription } from "./subscribe.js";
import type { Joined, Visit, Visitor } from "./visit.js";
import { type Welcome, type WelcomeStore, welcome } from "./welcome.js";

export interface AgentsOptions {
  instanceId: string;
  maxFilterIds: number;
  /** Nothing for a connection that did not come through the door. */
  visit(connection: object): Visit | undefined;
  /** For each connection its own. */
  subscriptionLimit(): Subscriber["limit"];
  exit(socket: Socket, how: { encoding: Visitor["encoding"]; offsets: boolean }): Exit;
  store: WelcomeStore;
  hub: Hub;
  presence: Presence;
  onSubscribed(visit: Visit, filters: Filters): void;
  /** The client had this connection before, and may have left it without a word. */
  onReturned(visit: Visit, former: string): void;
  logger: Logger;
}

type AgentsSocket = Socket<ClientToServerEvents, ServerToClientEvents>;

/** Nobody has business in the root namespace, which Socket.IO always has. */
export function refuseRoot(io: Server): void {
  io.of("/").use((_, next) => next(connectError("NAMESPACE_UNKNOWN")));
}

/** A socket of Socket.IO has the id of its connection: one name for it in the log, in Redis and in READY. */
function nameAfterConnection(namespace: Namespace, options: AgentsOptions): void {
  const named = namespace as unknown as {
    _createSocket(client: { conn: object }, auth: object): Promise<Socket>;
  };
  const create = named._createSocket.bind(namespace);
  named._createSocket = async (client, auth) => {
    const socket = await create(client, auth);
    const id = options.visit(client.conn)?.id;
    return id === undefined ? socket : Object.assign(socket, { id });
  };
}

/** The namespace of statuses and progress: lets a visitor in, where it left off, and takes its SUBSCRIBEs. */
export function serveAgents(io: Server, options: AgentsOptions): void {
  const { hub, presence, store, logger } = options;
  const namespace: Namespace<ClientToServerEvents, ServerToClientEvents> = io.of(AGENTS_NAMESPACE);
  nameAfterConnection(namespace as unknown as Namespace, options);
  const welcomes = new WeakMap<AgentsSocket, Welcome>();
  const logFailure = (what: string) => (error: unknown) => logger.warn({ err: String(error) }, what);

  /** Socket.IO itself notices a second CONNECT only when the first one has been let in. */
  const connected = new WeakSet<AgentsSocket["conn"]>();

  namespace.use(async (socket, next) => {
    if (connected.has(socket.conn)) {
      socket.conn.close();
      return next(connectError("BAD_REQUEST"));
    }
    connected.add(socket.conn);
    const visit = options.visit(socket.conn);
    if (!visit) return next(connectError("NAMESPACE_UNKNOWN"));
    try {
      const open = () => socket.conn.readyState === "open";
      const welcomed = await welcome(visit, socket.handshake.auth, open, store);
      const { pid, recovered } = welcomed.begins;
      // Socket.IO sends `pid` in CONNECT; a stock client that gets its own one back says `recovered`.
      if (visit.visitor.resumes) {
        Object.assign(socket, { pid, recovered: recovered && pid === socket.handshake.auth.pid });
      }
      welcomes.set(socket, welcomed);
      next();
    } catch (error) {
      // A CONNECT_ERROR would end a stock client's attempts; a closed transport lets it try again. With the transport
      // closed, `next` sends nothing and only cleans up.
      logFailure("connection could not be prepared")(error);
      socket.conn.close();
      next(connectError("UNAVAILABLE"));
    }
  });

  namespace.on("connection", (socket) => {
    const welcomed = welcomes.get(socket);
    if (!welcomed) return socket.disconnect(true);
    const { visit, begins } = welcomed;
    const { visitor } = visit;
    const first = begins.start.name === "first";
    const epoch = first ? hub.continuity.epoch : begins.epoch;
    const position = first ? hub.last : begins.position;
    const exit = options.exit(socket, { encoding: visitor.encoding, offsets: visitor.resumes });
    const connection = new Connection(
      socket.id,
      visitor.user.id,
      visit.projects,
      begins.filters,
      epoch,
      position,
      exit,
    );

    const leaveRooms = () => {
      for (const room of roomsOf(connection.filters, connection.projects)) socket.leave(room);
    };
    const joined: Joined = {
      say: (event_type, payload) => exit.say(event_type, payload),
      drained: () => exit.drained(),
      onRights(projects) {
        leaveRooms();
        hub.renewRights(connection, projects);
        socket.join(roomsOf(connection.filters, projects));
      },
    };
    visit.namespaces.add(joined);
    socket.join(roomsOf(connection.filters, connection.projects));
    if (begins.holder !== "" && begins.holder !== visit.id) options.onReturned(visit, begins.holder);
    presence.hears(visit, {
      connection,
      pid: visitor.resumes ? begins.pid : undefined,
      asked: visitor.filters,
      began: { epoch, position },
    });
    const save = () => presence.save(socket.id).catch(logFailure("connection could not be saved"));
    void save();
    exit.say("READY", {
      connection_id: socket.id,
      instance_id: options.instanceId,
      user_id: visitor.user.id,
      epoch: hub.continuity.epoch,
      sequence_id: position,
      filters: connection.filters,
      encoding: visitor.encoding,
      recovered: begins.recovered,
    });
    hub.add(connection, begins.start);

    const limit = options.subscriptionLimit();
    const refilter = (to: Filters) => {
      leaveRooms();
      socket.join(roomsOf(to, connection.projects));
      options.onSubscribed(visit, to);
      return hub.refilter(connection, to);
    };
    const subscriber = { connection, maxFilterIds: options.maxFilterIds, limit, refilter, save };
    const subscribe: Heard = {
      judge: judgeObject,
      take: ([wanted], ack) => takeSubscription(wanted as object, ack, subscriber),
    };
    hear(socket, new Map([["SUBSCRIBE", subscribe]]), logger);
    socket.on("disconnect", () => {
      connected.delete(socket.conn);
      visit.namespaces.delete(joined);
      hub.remove(socket.id);
      presence.leaves(socket.id).catch(logFailure("session could not be left"));
    });
  });
}
