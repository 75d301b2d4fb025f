import { refusal } from "@agentwire/shared";
import * as stock from "socket.io-parser";

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

/** For Socket.IO's `parser` option. */
export const parser = { protocol: stock.protocol, Encoder, Decoder: stock.Decoder };
