import { type Delivery, type Envelope, events, type Filterable, filterable } from "@agentwire/shared";
import { Encoder, PacketType } from "socket.io-parser";
import { type Encoding, encodeMessagePack } from "./encoding.js";
import { COMPRESS_FROM_BYTES, deflateMessage, webSocketFrame } from "./websocket-frame.js";

/** One message as Engine.IO takes it. */
export interface Packet {
  type: "message";
  data: string | Buffer;
  options: { compress: boolean; wsPreEncodedFrame?: Buffer[] };
}

const encoder = new Encoder();

/** One event, encoded at most once per way in which somebody takes it, for all who hear it. */
export class Frame {
  readonly about: Filterable;
  readonly delivery: Delivery;
  /** Goes out at once, whatever the limits say. */
  readonly urgent: boolean;
  /** By encoding and offset. */
  readonly #messages: (string | Buffer | undefined)[] = [];
  /** By encoding, offset and compression. */
  readonly #packets: (Packet[] | undefined)[] = [];

  /** @param namespace the name of the namespace in which it is said */
  constructor(
    readonly namespace: string,
    readonly envelope: Envelope,
  ) {
    this.about = filterable(envelope);
    this.delivery = events[envelope.event_type].delivery;
    this.urgent = envelope.priority === "CRITICAL";
  }

  /**
   * The Socket.IO packet.
   * @param offset whether its `sequence_id` comes again as a last argument
   */
  message(encoding: Encoding, offset: boolean): string | Buffer {
    const at = (encoding === "json" ? 0 : 1) + (offset ? 2 : 0);
    this.#messages[at] ??= this.#encode(encoding, offset);
    return this.#messages[at];
  }

  /** The same as one ready WebSocket frame, in a list that Engine.IO's WebSocket takes as it is and only reads. */
  webSocketPackets(encoding: Encoding, offset: boolean, compress: boolean): Packet[] {
    const at = (encoding === "json" ? 0 : 1) + (offset ? 2 : 0) + (compress ? 4 : 0);
    this.#packets[at] ??= this.#pack(encoding, offset, compress);
    return this.#packets[at];
  }

  #encode(encoding: Encoding, offset: boolean): string | Buffer {
    const { event_type, sequence_id } = this.envelope;
    const data = offset ? [event_type, this.envelope, sequence_id] : [event_type, this.envelope];
    const packet = { type: PacketType.EVENT, nsp: this.namespace, data };
    if (encoding === "messagepack") return encodeMessagePack(packet);
    const [text, ...attachments] = encoder.encode(packet);
    if (attachments.length > 0) throw new Error(`${event_type} has bytes, which JSON cannot hold`);
    return text;
  }

  #pack(encoding: Encoding, offset: boolean, compress: boolean): Packet[] {
    const data = this.message(encoding, offset);
    // Engine.IO's own packet type, "4" for a message, stands before a text; bytes are always a message.
    const payload = typeof data === "string" ? Buffer.from(`4${data}`) : data;
    if (compress && payload.length < COMPRESS_FROM_BYTES)
      return this.webSocketPackets(encoding, offset, false);
    const kind = typeof data === "string" ? "text" : "binary";
    const frame = webSocketFrame(compress ? deflateMessage(payload) : payload, kind, compress);
    return [{ type: "message", data, options: { compress: false, wsPreEncodedFrame: [frame] } }];
  }
}
