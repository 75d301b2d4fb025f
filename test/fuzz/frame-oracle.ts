import { isUtf8 } from "node:buffer";
import { AGENTS_NAMESPACE, limits } from "@agentwire/shared";
import { Decoder, type Packet, PacketType } from "socket.io-parser";
import { MessagePackReader } from "../../server/src/gate/messagepack.js";
import { readFrame } from "../harness/raw-frame.js";

/**
 * What must become of a connection:
 * - `bad`: it is closed. `told`: a client that has joined gets ERROR before
 * - `good`: it goes on
 * - `unknown`: not all of a message came, or two readers may differ about it; nothing is expected
 */
export type Verdict = "bad" | "told" | "good" | "unknown";

export interface Situation {
  joined: boolean;
  encoding: "json" | "messagepack";
}

const HERE = `${AGENTS_NAMESPACE},`;
const CONTINUATION = 0;
const TEXT = 1;
const BINARY = 2;
const CONTROL = [8, 9, 10];
const CLOSE = 8;

/** Judges what a client writes on a WebSocket without extensions, by RFC 6455, 5. */
export function judgeBytes(bytes: Buffer, situation: Situation): Verdict {
  let verdict: Verdict = "unknown";
  let message: { isText: boolean; parts: Buffer[] } | undefined;
  for (let at = 0; at < bytes.length; ) {
    const frame = readFrame(bytes, at);
    if (!frame) return "unknown";
    const { fin, reserved, opcode, isMasked, length, payload, end } = frame;
    const isControl = CONTROL.includes(opcode);
    if (reserved !== 0 || !isMasked) return "bad";
    if (!isControl && ![CONTINUATION, TEXT, BINARY].includes(opcode)) return "bad";
    if (isControl && (!fin || length > 125)) return "bad";
    if (!isControl && (opcode === CONTINUATION) !== (message !== undefined)) return "bad";
    if (length > limits.messageBytes) return "bad";
    if (!payload) return "unknown";
    at = end;
    if (opcode === CLOSE) return "bad";
    if (isControl) {
      verdict = "good";
      continue;
    }
    message ??= { isText: opcode === TEXT, parts: [] };
    message.parts.push(payload);
    if (!fin) continue;
    const whole = Buffer.concat(message.parts);
    if (message.isText && !isUtf8(whole)) return "bad";
    const next = judgeMessage(message.isText ? whole.toString() : whole, situation);
    message = undefined;
    if (next !== "good") return next;
    if (verdict === "good") return "unknown";
    verdict = next;
  }
  return message ? "unknown" : verdict;
}

/** Judges what a client posts, by Engine.IO's protocol. */
export function judgeBody(body: Buffer, situation: Situation): Verdict {
  const packets = body.toString().split("\x1e");
  const verdicts = packets.map((packet) => judgeMessage(packet, situation));
  const first = verdicts.findIndex((one) => one !== "good");
  if (first < 0) return verdicts.length === 1 ? "good" : "unknown";
  // What came before may have changed the situation.
  if (first > 0) return "unknown";
  // What comes after it may be the client's own end.
  return verdicts[0] === "told" && packets.length > 1 ? "bad" : (verdicts[0] as Verdict);
}

/** Judges one packet of Engine.IO. */
export function judgeMessage(message: string | Buffer, situation: Situation): Verdict {
  if (typeof message !== "string") return judgePacket(message, situation);
  const [type] = message;
  if (type === "b") return judgePacket(Buffer.from(message.slice(1), "base64"), situation);
  return type === "4" ? judgePacket(message.slice(1), situation) : "bad";
}

/** Judges one packet of Socket.IO: by the stock reader where it is JSON, then by our rules. */
function judgePacket(data: string | Buffer, { joined, encoding }: Situation): Verdict {
  const isText = typeof data === "string";
  // Socket.IO closes a connection for an event that was for a namespace it has not joined, whatever is in it.
  const elsewhere = isText && /^(2|5\d+-)/.test(data) && !data.replace(/^(2|5\d+-)/, "").startsWith(HERE);
  const malformed = joined && !elsewhere ? "told" : "bad";
  if (joined && isText !== (encoding === "json")) return malformed;
  const packet = isText ? readText(data) : readBytes(data);
  if (packet === "unknown") return "unknown";
  if (!packet) return malformed;
  const { type, nsp, id, data: value } = packet;
  if (typeof nsp !== "string" || !/^\/[^,]{0,255}$/s.test(nsp)) return malformed;
  if (id !== undefined && !(Number.isSafeInteger(id) && id >= 0)) return malformed;
  const here = joined && nsp === AGENTS_NAMESPACE;
  if (type === PacketType.CONNECT) {
    const fits = id === undefined && (value === undefined || isPlain(value)) && !hasFlaw(value, 1);
    return fits ? (here ? "bad" : "good") : malformed;
  }
  if (type === PacketType.DISCONNECT) {
    if (id !== undefined || value !== undefined) return malformed;
    return here ? "good" : "bad";
  }
  if (type !== PacketType.EVENT) return malformed;
  if (!here) return "bad";
  const isSubscribe =
    Array.isArray(value) && value.length === 2 && value[0] === "SUBSCRIBE" && isPlain(value[1]);
  return isSubscribe && !hasFlaw(value, 0) ? "good" : "told";
}

function readText(text: string): Packet | "unknown" | undefined {
  // The stock reader takes white space for digits.
  if (/^[0-4](\/[^,]*(,|$))?\d*\s/.test(text)) return "unknown";
  if (/^5\d+-/.test(text)) return readText(`2${text.slice(text.indexOf("-") + 1)}`) && binary(text);
  if (!/^[0-4]/.test(text)) return undefined;
  let packet: Packet | undefined;
  const decoder = new Decoder();
  decoder.on("decoded", (decoded) => {
    packet = decoded;
  });
  try {
    decoder.add(text);
  } catch {
    return undefined;
  }
  return packet;
}

/** An event with attachments: wrong, and told where it was for. */
function binary(text: string): Packet | undefined {
  const nsp = /^5\d+-(\/[^,]*)/.exec(text)?.[1] ?? "/";
  return { type: PacketType.EVENT, nsp, data: [] };
}

function readBytes(bytes: Buffer): Packet | undefined {
  const reader = new MessagePackReader(bytes, limits.nesting + 2);
  try {
    const value = reader.read() as Packet | undefined;
    if (typeof value !== "object" || value === null || Array.isArray(value)) return undefined;
    // Told where it was for, if it was an event.
    return reader.flaw === undefined || value.type === PacketType.EVENT
      ? { ...value, ...(reader.flaw !== undefined && { data: [] }) }
      : undefined;
  } catch {
    return undefined;
  }
}

function isPlain(value: unknown): value is object {
  return typeof value === "object" && value !== null && Object.getPrototypeOf(value) === Object.prototype;
}

function hasFlaw(value: unknown, depth: number): boolean {
  if (typeof value !== "object" || value === null) return false;
  if (depth > limits.nesting) return true;
  return Object.entries(value).some(
    ([key, inner]) =>
      (!Array.isArray(value) && ["__proto__", "constructor", "prototype"].includes(key)) ||
      hasFlaw(inner, depth + 1),
  );
}
