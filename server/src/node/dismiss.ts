import { randomUUID } from "node:crypto";
import { type Acknowledgement, type Refusal, stamp } from "@agentwire/shared";
import type { Socket } from "socket.io";

/** Who does not take the last words is cut off after this. */
const LAST_WORDS_MS = 1000;
/** A connection without a namespace is closed after this. */
const NO_NAMESPACE_MS = 10_000;

/** Answers a request of the client. */
export type Answer<T = object> = (answer: Acknowledgement<T>) => void;

/** Engine.IO's connection, with what its types keep private. */
interface Connection {
  readonly readyState: string;
  readonly transport: { writable: boolean; socket?: { terminate(): void }; onClose(): void };
  flush(): void;
  close(): unknown;
}

const connectionOf = (socket: Socket) => socket.conn as unknown as Connection;

/**
 * Closes the connection of a client that broke the rules, and says why: as acknowledgement, where it asked for one, and as
 * ERROR. A stock client does not come back from this by itself. What waits at the gate is left behind, as at any close.
 */
export function dismiss(socket: Socket, why: Refusal, answer?: Answer): void {
  if (!socket.connected) return;
  const connection = connectionOf(socket);
  const { transport } = connection;
  const { writable } = transport;
  // All in one piece, and after this turn: a polling client that gets the half of it may never ask for the rest, and
  // Engine.IO cuts the request that it closes in, which to a stock client is a fault: it would come back.
  transport.writable = false;
  try {
    answer?.({ ok: false, error: { code: why.code, message: why.message } });
    socket.emit("ERROR", stamp("ERROR", randomUUID(), why));
    socket.disconnect(true);
  } finally {
    if (writable)
      process.nextTick(() => {
        transport.writable = true;
        connection.flush();
      });
  }
}

/** When a connection that a socket has left is looked at next. */
const looks = new WeakMap<Connection, NodeJS.Timeout>();

/** Sees to it that a connection ends when it has no namespace any more. To be called for each socket that joins one. */
export function endUnused(socket: Socket): void {
  const connection = connectionOf(socket);
  const lookAfter = (ms: number, look: () => void) => looks.set(connection, setTimeout(look, ms).unref());
  socket.on("disconnect", () => {
    if (connection.readyState === "closed") return;
    clearTimeout(looks.get(connection));
    lookAfter(LAST_WORDS_MS, () => {
      if (connection.readyState !== "open") return cutOff(connection);
      lookAfter(NO_NAMESPACE_MS - LAST_WORDS_MS, () => {
        if (namespacesOf(socket) > 0) return;
        connection.close();
        lookAfter(LAST_WORDS_MS, () => cutOff(connection));
      });
    });
  });
}

function namespacesOf(socket: Socket): number {
  return (socket.client as unknown as { sockets: Map<string, Socket> }).sockets.size;
}

/** Who is to be closed need not read what was said before, nor agree. */
function cutOff({ readyState, transport }: Connection): void {
  if (transport.socket) transport.socket.terminate();
  else if (readyState === "closing") transport.onClose();
}
