import { refusal } from "@agentwire/shared";
import * as msgpack from "socket.io-msgpack-parser";
import * as stock from "socket.io-parser";

/** Names that Socket.IO itself emits on a socket: as an event from outside they would reach its own listeners. */
const RESERVED = new Set([
  "connect",
  "connect_error",
  "disconnect",
  "disconnecting",
  "newListener",
  "removeListener",
]);

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

/** Takes both encodings: what a client's first packet is in, all of its packets are. */
class Decoder extends stock.Decoder {
  #encoding: "json" | "messagepack" | undefined;

  override add(data: unknown): void {
    this.#encoding ??= typeof data === "string" ? "json" : "messagepack";
    if (this.#encoding === "json") return super.add(data as string);
    const decoder = new msgpack.Decoder();
    decoder.on("decoded", (packet: stock.Packet) => {
      if (packet.type === stock.PacketType.EVENT) {
        const [name] = packet.data as unknown[];
        if (typeof name !== "string" || RESERVED.has(name)) throw new Error("invalid event name");
      }
      this.emitReserved("decoded", packet);
    });
    decoder.add(data);
  }
}

/** For Socket.IO's `parser` option. */
export const parser = { protocol: stock.protocol, Encoder, Decoder };
