import { AgentwireError, type Refusal, refusal } from "@agentwire/shared";
import type { Logger } from "pino";
import type { Socket } from "socket.io";
import { type Answer, dismiss } from "./dismiss.js";

/** What a connection does with the events of its client. */
export interface Input {
  /** @param wanted one plain object */
  subscribe(wanted: object, answer?: Answer): Promise<void>;
  logger: Logger;
}

/**
 * Hears the client of one socket. What it may say goes to `input`; whoever says anything else is told what was wrong, and
 * its connection is closed.
 */
export function hear(socket: Socket, { subscribe, logger }: Input): void {
  // The gate's parser found something wrong: in a packet of this socket (it stands where the event's name would), or in
  // one that it could not read.
  const fail = (error: unknown, answer?: Answer): void => {
    if (error instanceof AgentwireError) return dismiss(socket, refusal(error.code, error.message), answer);
    logger.error({ err: error, connection_id: socket.id }, "event failed");
    dismiss(socket, refusal("INTERNAL"), answer);
  };

  socket.on("error", fail);
  socket.onAny((event: unknown, ...args: unknown[]) => {
    // Others of its packets are under way when it is dismissed.
    if (!socket.connected) return;
    const answer = typeof args.at(-1) === "function" ? (args.pop() as Answer) : undefined;
    if (typeof event !== "string") return fail(event, answer);
    const wrong = judgeEvent(event, args);
    if (wrong) return dismiss(socket, wrong, answer);
    subscribe(args[0] as object, answer).catch((error: unknown) => fail(error, answer));
  });
}

/** Whether it is an event of a client, by its name and arguments. */
function judgeEvent(event: string, args: unknown[]): Refusal | undefined {
  if (event !== "SUBSCRIBE") return refusal("UNKNOWN_EVENT");
  const [filters, ...more] = args;
  const isObject = typeof filters === "object" && filters !== null && !Array.isArray(filters);
  return isObject && more.length === 0 ? undefined : refusal("INVALID_FILTER", "one object is wanted");
}
