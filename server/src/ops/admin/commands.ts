import { AGENTS_NAMESPACE } from "@agentwire/shared";
import type { Logger } from "pino";
import type { Namespace } from "socket.io";

/** What one node tells the others. */
const DISCONNECT = "disconnect viewers";
/** A connection's id, or a room. */
const LONGEST_TARGET = 256;

export interface CommandOptions {
  /** Whether operators only look. Otherwise they may disconnect viewers. */
  readonly: boolean;
  logger: Logger;
}

/**
 * What an operator's command may be: to disconnect one viewer, or one room's. `instrument()` would also say events and
 * move sockets between rooms, past the log and past the filters that a client was told are in force.
 */
function disconnectIn([event, namespace, close, target]: unknown[]):
  | [close: boolean, target: string]
  | undefined {
  const known = event === "_disconnect" && namespace === AGENTS_NAMESPACE && typeof close === "boolean";
  const named = typeof target === "string" && target !== "" && target.length <= LONGEST_TARGET;
  return known && named ? [close, target] : undefined;
}

/**
 * Takes the operators' commands, and none gets through to `instrument()`: as it passes them on, they would stand in the
 * log's stream.
 */
export function takeCommands(
  namespace: Namespace,
  viewers: Namespace,
  { readonly, logger }: CommandOptions,
): void {
  const disconnect = (close: boolean, target: string) => viewers.local.in(target).disconnectSockets(close);
  namespace.on(DISCONNECT, disconnect);
  namespace.on("connection", (socket) => {
    socket.use((packet) => {
      const command = readonly ? undefined : disconnectIn(packet);
      if (!command) return;
      logger.info({ socket_id: socket.id, target: command[1] }, "operator disconnects viewers");
      disconnect(...command);
      namespace.serverSideEmit(DISCONNECT, ...command);
    });
  });
}
