import {
  AGENTS_NAMESPACE,
  type ClientToServerEvents,
  type Filters,
  refusal,
  SEQUENCE_START,
  type SequenceId,
  type ServerToClientEvents,
} from "@agentwire/shared";
import type { Logger } from "pino";
import type { Namespace, Server, Socket } from "socket.io";
import { Connection, type Exit } from "./connection.js";
import type { Hub } from "./hub.js";
import type { Presence, SessionRecord } from "./presence.js";
import { type Beginning, beginning, type ResumeSources } from "./resume.js";
import { roomsOf } from "./rooms.js";
import { takeSubscription } from "./subscribe.js";

/** Who stands behind a request, and what was asked for. The door decided it. */
export interface Visitor {
  user: { id: string };
  projects: ReadonlySet<string>;
  filters: Filters;
  encoding: "json";
  lastSequenceId?: SequenceId;
  epoch?: string;
  offsets: boolean;
  ip: string;
}

export interface AgentsOptions {
  instanceId: string;
  maxFilterIds: number;
  visitor(request: Socket["request"]): Visitor | undefined;
  exit(socket: Socket, offsets: boolean): Exit;
  sources: ResumeSources;
  keepAudience(userId: string, projects: ReadonlySet<string>): Promise<void>;
  /** Takes a session over from the connection that had it; false when another one did so meanwhile. */
  claimSession(pid: string, session: SessionRecord, from: string): Promise<boolean>;
  hub: Hub;
  presence: Presence;
  logger: Logger;
}

type AgentsSocket = Socket<ClientToServerEvents, ServerToClientEvents>;
type Welcome = { visitor: Visitor; begins: Beginning };

/** The error that Socket.IO turns into a CONNECT_ERROR packet. */
function connectError(code: Parameters<typeof refusal>[0]): Error {
  const data = refusal(code);
  return Object.assign(new Error(data.message), { data });
}

/** Nobody has business in the root namespace, which Socket.IO always has. */
export function refuseRoot(io: Server): void {
  io.of("/").use((_, next) => next(connectError("NAMESPACE_UNKNOWN")));
}

/** The namespace of statuses and progress: lets a visitor in, where it left off, and takes its SUBSCRIBEs. */
export function serveAgents(io: Server, options: AgentsOptions): Namespace {
  const { hub, presence, sources, logger } = options;
  const namespace: Namespace<ClientToServerEvents, ServerToClientEvents> = io.of(AGENTS_NAMESPACE);
  const welcomes = new WeakMap<AgentsSocket, Welcome>();
  const logFailure = (what: string) => (error: unknown) => logger.warn({ err: String(error) }, what);

  namespace.use(async (socket, next) => {
    const visitor = options.visitor(socket.request);
    if (!visitor) return next(connectError("UNAUTHORIZED"));
    const { user, projects, filters, lastSequenceId, epoch } = visitor;
    const { pid, offset } = socket.handshake.auth;
    try {
      // First the audience, so that from here on each event reaches the user's index; then what it holds already.
      await options.keepAudience(user.id, projects);
      const claim = { userId: user.id, projects, filters, pid, offset, lastSequenceId, epoch };
      const begins = await beginning(claim, sources);
      // Written before CONNECT is answered: a client that knows its pid can resume, whatever happens to this node.
      const { position, holder, filters: inForce } = begins;
      const session = {
        user_id: user.id,
        epoch: begins.epoch,
        connection_id: socket.id,
        began: position,
        last_sent: SEQUENCE_START,
        as_of: position,
        filters: inForce,
      };
      if (!(await options.claimSession(begins.pid, session, holder)))
        throw new Error("resumed elsewhere meanwhile");
      // Socket.IO sends `pid` in CONNECT; a stock client that gets its own one back says `recovered`.
      Object.assign(socket, { pid: begins.pid, recovered: begins.recovered && begins.pid === pid });
      welcomes.set(socket, { visitor, begins });
      next();
    } catch (error) {
      // A CONNECT_ERROR would end a stock client's attempts: a closed transport lets it try again.
      logFailure("connection could not be prepared")(error);
      socket.conn.close();
    }
  });

  namespace.on("connection", (socket) => {
    const welcome = welcomes.get(socket);
    if (!welcome) return socket.disconnect(true);
    const { visitor, begins } = welcome;
    const first = begins.start.name === "first";
    const epoch = first ? hub.continuity.epoch : begins.epoch;
    const position = first ? hub.last : begins.position;
    const exit = options.exit(socket, visitor.offsets);
    const connection = new Connection(
      socket.id,
      visitor.user.id,
      visitor.projects,
      begins.filters,
      epoch,
      position,
      exit,
    );

    socket.join(roomsOf(connection.filters, connection.projects));
    presence.add({
      connection,
      pid: begins.pid,
      began: { epoch, position },
      connectedAt: new Date().toISOString(),
      ip: visitor.ip,
      encoding: visitor.encoding,
      transport: () => socket.conn.transport.name,
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

    socket.on("SUBSCRIBE", (...args: unknown[]) =>
      takeSubscription(args, {
        connection,
        maxFilterIds: options.maxFilterIds,
        moveRooms(from, to) {
          for (const room of roomsOf(from, connection.projects)) socket.leave(room);
          socket.join(roomsOf(to, connection.projects));
        },
        position: () => hub.positionOf(connection),
        save,
      }),
    );
    socket.onAny((event) => {
      if (event !== "SUBSCRIBE") exit.say("ERROR", refusal("UNKNOWN_EVENT"));
    });
    socket.on("disconnect", () => {
      hub.remove(socket.id);
      presence.remove(socket.id).catch(logFailure("connection record could not be removed"));
    });
  });

  return namespace as unknown as Namespace;
}
