import {
  type Delivery,
  type Envelope,
  events,
  type Filterable,
  filterable,
  type PayloadOf,
} from "@agentwire/shared";
import { Encoder, PacketType } from "socket.io-parser";
import { type Encoding, encodeMessagePack } from "./encoding.js";
import { COMPRESS_FROM_BYTES, webSocketFrame } from "./websocket-frame.js";

/** What one Engine.IO packet holds. In JSON, bytes follow the text as messages of their own. */
type Message = string | Buffer;

const encoder = new Encoder();

/** Compressed, a message must have at most so much of its size. */
const WORTH = 0.9;

/** The encoders know a Buffer only. */
function withBuffer(envelope: Envelope): Envelope {
  const payload = envelope.payload as PayloadOf<"TERMINAL_OUTPUT">;
  const { buffer, byteOffset, byteLength } = payload.data;
  return { ...envelope, payload: { ...payload, data: Buffer.from(buffer, byteOffset, byteLength) } };
}

/** One event, encoded at most once per way in which somebody takes it, for all who hear it. */
export class Frame {
  readonly about: Filterable;
  readonly delivery: Delivery;
  /** Goes out at once, whatever the limits say. */
  readonly urgent: boolean;
  /** By encoding and offset. */
  readonly #messages: (Message[] | undefined)[] = [];
  /** By encoding, offset and compression. */
  readonly #frames: (Buffer | undefined)[] = [];

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
  messages(encoding: Encoding, offset: boolean): Message[] {
    const at = (encoding === "json" ? 0 : 1) + (offset ? 2 : 0);
    this.#messages[at] ??= this.#encode(encoding, offset);
    return this.#messages[at];
  }

  /** The same as it stands on the wire of a WebSocket. */
  webSocketFrame(encoding: Encoding, offset: boolean, compress: boolean): Buffer {
    const at = (encoding === "json" ? 0 : 1) + (offset ? 2 : 0) + (compress ? 4 : 0);
    this.#frames[at] ??= this.#pack(encoding, offset, compress);
    return this.#frames[at];
  }

  #encode(encoding: Encoding, offset: boolean): Message[] {
    const { event_type, sequence_id } = this.envelope;
    const envelope = this.delivery === "bytes" ? withBuffer(this.envelope) : this.envelope;
    const data = offset ? [event_type, envelope, sequence_id] : [event_type, envelope];
    const packet = { type: PacketType.EVENT, nsp: this.namespace, data };
    if (encoding === "messagepack") return [encodeMessagePack(packet)];
    return encoder.encode(packet);
  }

  #pack(encoding: Encoding, offset: boolean, compress: boolean): Buffer {
    const payloads = this.messages(encoding, offset).map((data) => ({
      text: typeof data === "string",
      // Engine.IO's own packet type, "4" for a message, stands before a text; bytes are always a message.
      bytes: typeof data === "string" ? Buffer.from(`4${data}`) : data,
    }));
    if (compress && payloads.every(({ bytes }) => bytes.length < COMPRESS_FROM_BYTES))
      return this.webSocketFrame(encoding, offset, false);
    const frames = payloads.map(({ text, bytes }) => webSocketFrame(bytes, text, compress));
    const frame = frames.length === 1 ? (frames[0] as Buffer) : Buffer.concat(frames);
    const plain = payloads.reduce((sum, { bytes }) => sum + bytes.length, 0);
    // What does not get smaller only costs each client the work to inflate it.
    if (compress && frame.length >= plain * WORTH) return this.webSocketFrame(encoding, offset, false);
    return frame;
  }
}
