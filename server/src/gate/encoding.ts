import * as msgpack from "socket.io-msgpack-parser";
import { Decoder, type Packet } from "socket.io-parser";

/** How a connection's packets are written. Chosen in the handshake. */
export type Encoding = "json" | "messagepack";

const encoder = new msgpack.Encoder();

export function encodeMessagePack(packet: object): Buffer {
  // Its types promise one buffer; it gives a list of one.
  const [bytes] = encoder.encode(packet) as unknown as [Buffer];
  return bytes;
}

/** Engine.IO's connection, as far as its packets are concerned. */
export interface PacketSource {
  on(
    event: "packetCreate",
    listener: (packet: { type: string; data?: string | Buffer | undefined }) => void,
  ): unknown;
}

/**
 * Makes a connection speak MessagePack also where Socket.IO itself speaks (CONNECT, CONNECT_ERROR, acknowledgements,
 * DISCONNECT): it has one encoder for all clients, so each of these few packets is encoded again. Events come from the
 * gate in the right encoding and pass as they are.
 */
export function speakMessagePack(connection: PacketSource): void {
  connection.on("packetCreate", (packet) => {
    if (packet.type === "message" && typeof packet.data === "string") {
      packet.data = encodeMessagePack(parse(packet.data));
    }
  });
}

function parse(text: string): Packet {
  let parsed: Packet | undefined;
  const decoder = new Decoder();
  decoder.on("decoded", (packet) => {
    parsed = packet;
  });
  decoder.add(text);
  if (!parsed) throw new Error("a packet of Socket.IO's own has binary attachments");
  return parsed;
}
