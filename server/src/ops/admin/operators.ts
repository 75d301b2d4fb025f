import { AGENTS_NAMESPACE } from "@agentwire/shared";
import { instrument } from "@socket.io/admin-ui";
import { Server as Engine } from "engine.io";
import type { Namespace, Server, Socket } from "socket.io";
import type { Adapter } from "socket.io-adapter";
import { type CommandOptions, takeCommands } from "./commands.js";
import { type ListingOptions, listSockets } from "./listing.js";
import { guardLogin, type LoginRules, passwordHash } from "./login.js";

const NAMESPACE = "/admin";
/** The page says little: a login, or one command. */
const MAX_MESSAGE_BYTES = 65_536;
/** Who has not logged in by then is closed. */
const LOGIN_MS = 10_000;

export interface OperatorsOptions
  extends Omit<LoginRules, "isOperators">,
    Omit<ListingOptions, "viewers">,
    CommandOptions {
  username: string;
  /** Plain, or a bcrypt hash. */
  password: string;
  adapter(namespace: Namespace): Adapter;
}

/**
 * `instrument()` tells a new session before it lets the operator in, when the page does not listen yet: without this it
 * would ask for the password on each visit. Must come before `instrument()`.
 */
function repeatSession(namespace: Namespace): void {
  const sessions = new WeakMap<Socket, unknown>();
  namespace.use((socket, next) => {
    socket.onAnyOutgoing((event, id) => {
      if (event === "session") sessions.set(socket, id);
    });
    next();
  });
  namespace.on("connection", (socket) => {
    socket.offAnyOutgoing();
    if (sessions.has(socket)) socket.emit("session", sessions.get(socket));
  });
}

/**
 * The namespace of the Socket.IO admin UI. Call it after the public engine is bound: that is the one whose clients are
 * counted.
 *
 * @returns an engine of its own, for the operators' listener: who comes through another one finds no such namespace
 */
export async function serveOperators(io: Server, options: OperatorsOptions): Promise<Engine> {
  const { instanceId, readonly, logins, logger } = options;
  const password = await passwordHash(options.password);
  const engine = new Engine({ maxHttpBufferSize: MAX_MESSAGE_BYTES });
  const connections = new WeakMap<Socket["conn"], NodeJS.Timeout>();
  engine.on("connection", (connection: Socket["conn"]) => {
    const timer = setTimeout(() => connection.close(true), LOGIN_MS);
    connection.once("close", () => clearTimeout(timer));
    connections.set(connection, timer);
  });
  const { engine: publicEngine } = io;
  io.bind(engine);
  io.engine = publicEngine;

  const namespace = io.of(NAMESPACE);
  namespace.adapter.close();
  namespace.adapter = options.adapter(namespace);
  guardLogin(namespace, { ...options, isOperators: (connection) => connections.has(connection) });
  repeatSession(namespace);
  namespace.on("connection", (socket) => {
    clearTimeout(connections.get(socket.conn));
    logger.info({ ip: options.address(socket.request), socket_id: socket.id }, "operator came in");
    socket.on("disconnect", (reason) => logger.info({ socket_id: socket.id, reason }, "operator left"));
  });
  const viewers = io.of(AGENTS_NAMESPACE);
  takeCommands(namespace, viewers, options);

  instrument(io, {
    namespaceName: NAMESPACE,
    mode: "production",
    serverId: instanceId,
    // Its own commands are not taken: see takeCommands().
    readonly: true,
    auth: { type: "basic", username: options.username, password },
    // It does not hear what rejects here.
    store: {
      doesSessionExist: (id) => logins.sessionExists(id).catch(() => false),
      saveSession(id) {
        const log = (error: unknown) =>
          logger.warn({ err: String(error) }, "session of an operator not saved");
        logins.saveSession(id).catch(log);
      },
    },
  });
  // After its own: the page shows the lists of sockets only to whom all events are promised.
  const supportedFeatures = [...(readonly ? [] : ["DISCONNECT"]), "AGGREGATED_EVENTS", "ALL_EVENTS"];
  namespace.on("connection", (socket) => socket.emit("config", { supportedFeatures }));
  listSockets(namespace, { ...options, viewers });
  return engine;
}
