import { AgentwireError, type Refusal, refusal } from "@agentwire/shared";
import type { Logger } from "pino";
import type { Socket } from "socket.io";
import { type Answer, dismiss } from "./dismiss.js";

/** An event that a client may say, and what is done with it. */
export interface Heard {
  /** Whether its arguments are what they must be; an acknowledgement is none of them. */
  judge(args: unknown[]): Refusal | undefined;
  take(args: unknown[], answer?: Answer): Promise<void>;
}

/**
 * Hears the client of one socket. It may say what stands in `events`, by name; whoever says anything else is told what
 * was wrong, and its connection is closed.
 */
export function hear(socket: Socket, events: ReadonlyMap<string, Heard>, logger: Logger): void {
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
    const heard = events.get(event);
    if (!heard) return dismiss(socket, refusal("UNKNOWN_EVENT"), answer);
    const wrong = heard.judge(args);
    if (wrong) return dismiss(socket, wrong, answer);
    heard.take(args, answer).catch((error: unknown) => fail(error, answer));
  });
}

/** Of an event that takes one object. */
export function judgeObject([value, ...more]: unknown[]): Refusal | undefined {
  const isObject = typeof value === "object" && value !== null && !Array.isArray(value);
  return isObject && more.length === 0 ? undefined : refusal("INVALID_FILTER", "one object is wanted");
}

/** Of an event that takes nothing. */
export function judgeNothing(args: unknown[]): Refusal | undefined {
  return args.length === 0 ? undefined : refusal("INVALID_EVENT", "nothing is wanted");
}
