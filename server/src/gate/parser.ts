import { AgentwireError, limits, refusal } from "@agentwire/shared";
import * as stock from "socket.io-parser";
import { MessagePackReader, NO_BYTES } from "./messagepack.js";
import { judgePacket } from "./rules.js";
import { SlidingLog } from "./window.js";

/**
 * Socket.IO refuses an unknown namespace by itself, before any middleware, with words only. The code is added where
 * that packet is encoded: there is no earlier place, and creating the namespace to refuse in it would keep it for ever.
 */
class Encoder extends stock.Encoder {
  override encode(packet: stock.Packet) {
    const refused =
      packet.type === stock.PacketType.CONNECT_ERROR && packet.data?.message === "Invalid namespace";
    if (!refused) return super.encode(packet);
    const data = refusal("NAMESPACE_UNKNOWN");
    return super.encode({ ...packet, data: { message: data.message, data } });
  }
}

/** CONNECTs of one connection in any second: all namespaces that it may have, at once, and some more. */
const CONNECTS_PER_SECOND = 25;
/** The packet itself, and the list of an event's arguments. */
const AROUND_ARGUMENTS = 2;

/**
 * Takes both encodings: what a client's first packet is in, all of its packets are. Each packet of a client comes through
 * here first; what Socket.IO gets keeps the rules, or says what is wrong with it (see {@link judgePacket}).
 */
class Decoder extends stock.Decoder {
  #encoding: "json" | "messagepack" | undefined;
  readonly #connects = new SlidingLog(CONNECTS_PER_SECOND);

  /** @throws AgentwireError; Socket.IO hands it to each of the connection's sockets, and closes the connection */
  override add(data: unknown): void {
    const encoding = typeof data === "string" ? "json" : "messagepack";
    this.#encoding ??= encoding;
    if (this.#encoding !== encoding) throw new AgentwireError("BAD_REQUEST", NO_BYTES);
    const packet = typeof data === "string" ? readText(data) : readBytes(data);
    if (packet.type === stock.PacketType.CONNECT && !this.#connects.take(performance.now()))
      throw new AgentwireError("RATE_LIMITED", "too many CONNECTs");
    this.emitReserved("decoded", packet);
  }
}

/** Type, number of attachments, namespace, id; data follows. */
const HEAD = /^(?:([0-4])|5\d{1,9}-)(?:(\/[^,]*)(?:,|$))?(\d*)/;

function readText(text: string): stock.Packet {
  const head = HEAD.exec(text);
  if (!head) throw new AgentwireError("BAD_REQUEST", "not a Socket.IO packet");
  const [before, type, nsp = "/", id = ""] = head;
  const data = readJson(text.slice(before.length));
  const packet = { nsp, data, ...(id !== "" && { id: Number(id) }) };
  if (type !== undefined) return judgePacket({ type: Number(type), ...packet });
  // Nobody waits for the bytes that would follow. What stands here says where that is answered.
  return judgePacket({ type: stock.PacketType.EVENT, ...packet }, NO_BYTES);
}

function readJson(text: string): unknown {
  if (text === "") return undefined;
  try {
    return JSON.parse(text);
  } catch (cause) {
    throw new AgentwireError("BAD_REQUEST", "not JSON", { cause });
  }
}

function readBytes(data: unknown): stock.Packet {
  if (!Buffer.isBuffer(data)) throw new AgentwireError("BAD_REQUEST", "an empty packet");
  const reader = new MessagePackReader(data, limits.nesting + AROUND_ARGUMENTS);
  const value = reader.read();
  if (typeof value !== "object" || value === null) throw new AgentwireError("BAD_REQUEST", "not a packet");
  return judgePacket(value, reader.flaw);
}

/** For Socket.IO's `parser` option. */
export const parser = { protocol: stock.protocol, Encoder, Decoder };
