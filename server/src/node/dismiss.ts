import { randomUUID } from "node:crypto";
import { type Acknowledgement, type Refusal, stamp } from "@agentwire/shared";
import type { Socket } from "socket.io";

/** Who does not take the last words is cut off after this. */
const LAST_WORDS_MS = 1000;

/** Answers a request of the client. */
export type Answer<T = object> = (answer: Acknowledgement<T>) => void;

/** Engine.IO's connection, with what its types keep private. */
interface Connection {
  readonly readyState: string;
  readonly transport: { writable: boolean; socket?: { terminate(): void }; onClose(): void };
  flush(): void;
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
    setTimeout(() => cutOff(connection), LAST_WORDS_MS).unref();
  }
}

/** Who is to be closed need not read what was said before, nor agree. */
function cutOff({ readyState, transport }: Connection): void {
  if (transport.socket) transport.socket.terminate();
  else if (readyState === "closing") transport.onClose();
}
