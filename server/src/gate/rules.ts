import { AgentwireError, limits } from "@agentwire/shared";
import { type Packet, PacketType } from "socket.io-parser";
import { isPrototypeName } from "./messagepack.js";

/** Names that Socket.IO or Node emit on a socket themselves: from outside they would reach their own listeners. */
const RESERVED = new Set([
  "connect",
  "connect_error",
  "disconnect",
  "disconnecting",
  "error",
  "newListener",
  "removeListener",
]);

/** Characters of a namespace: a terminal's id and what stands before it, with room. */
const NAMESPACE_LENGTH = 256;

const bad = (message: string) => new AgentwireError("BAD_REQUEST", message);

/**
 * Judges a packet that could be read. What is wrong within an event takes the place of the event's name: it travels to
 * the socket that the event was for, with its acknowledgement, and is answered there.
 *
 * @param flaw what its reader found wrong within it
 * @throws AgentwireError BAD_REQUEST when nobody can be told whom it was for
 */
export function judgePacket({ type, nsp, id, data }: Partial<Packet>, flaw?: string): Packet {
  if (typeof nsp !== "string" || !nsp.startsWith("/") || nsp.includes(",") || nsp.length > NAMESPACE_LENGTH)
    throw bad("not a namespace");
  // A larger id would be written in another notation, and nobody can read that as an id.
  if (id !== undefined && !(Number.isSafeInteger(id) && id >= 0)) throw bad("not a packet id");
  if (type === PacketType.EVENT) {
    const wrong = flaw ?? flawOfEvent(data);
    const about = { type, nsp, ...(id !== undefined && { id }) };
    return { ...about, data: wrong === undefined ? data : [bad(wrong)] };
  }
  const wrong = flaw ?? (id === undefined ? undefined : "an id where nothing is acknowledged");
  if (wrong !== undefined) throw bad(wrong);
  if (type === PacketType.CONNECT) {
    if (data !== undefined && !isPlainObject(data)) throw bad("what comes with CONNECT is no object");
    const inside = flawIn(data, 0);
    if (inside !== undefined) throw bad(inside);
    return { type, nsp, data };
  }
  if (type === PacketType.DISCONNECT && data === undefined) return { type, nsp };
  // The server asks for no acknowledgement, and only a server refuses a CONNECT.
  throw bad("not a packet of a client");
}

function flawOfEvent(data: unknown): string | undefined {
  if (!Array.isArray(data) || data.length === 0) return "an event is a list: its name, then its arguments";
  const [name, ...args] = data as unknown[];
  if (typeof name !== "string") return "an event's name is text";
  if (RESERVED.has(name)) return "a reserved event name";
  for (const arg of args) {
    const flaw = flawIn(arg, 0);
    if (flaw !== undefined) return flaw;
  }
  return undefined;
}

function flawIn(value: unknown, depth: number): string | undefined {
  if (typeof value !== "object" || value === null) return undefined;
  if (depth === limits.nesting) return `nested deeper than ${limits.nesting} levels`;
  if (!Array.isArray(value) && !isPlainObject(value)) return "an object that is not plain";
  const keys = Array.isArray(value) ? [] : Object.keys(value);
  const named = keys.find(isPrototypeName);
  if (named !== undefined) return `a key "${named}"`;
  for (const inner of Object.values(value)) {
    const flaw = flawIn(inner, depth + 1);
    if (flaw !== undefined) return flaw;
  }
  return undefined;
}

function isPlainObject(value: unknown): boolean {
  return typeof value === "object" && value !== null && Object.getPrototypeOf(value) === Object.prototype;
}

/** Engine.IO's connection, as far as its packets are concerned. */
interface EngineConnection {
  readonly transport: unknown;
  on(event: "packet" | "packetCreate", listener: (packet: { type: string }) => void): unknown;
  close(discard: boolean): unknown;
}

/** Engine.IO does not mind packets that only a server says, nor pongs that nobody asked for, millions of them. */
export function closeStrangers(connection: EngineConnection): void {
  let pings = 0;
  connection.on("packetCreate", ({ type }) => {
    if (type === "ping") pings++;
  });
  connection.on("packet", ({ type }) => {
    // What cannot be read ends it anyway.
    if (type === "message" || type === "error") return;
    if (type === "pong" && pings > 0) {
      pings--;
      return;
    }
    const { socket } = connection.transport as { socket?: { terminate(): void } };
    connection.close(true);
    // Without a last word: while it is waited for, all that comes would still be read.
    socket?.terminate();
  });
}
