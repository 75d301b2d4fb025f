import { type Envelope, events, type Filterable, filterable } from "@agentwire/shared";
import type { Namespace } from "socket.io";
import { PacketType } from "socket.io-parser";
import { type Encoding, encodeMessagePack } from "./encoding.js";

/** What Engine.IO takes for one message: the encoded packets, and the ready WebSocket frame in the options. */
export interface Packets {
  packets: unknown[];
  options: { preEncoded: true; wsPreEncodedFrame?: unknown };
}

/** The adapter's own encoding to JSON, which also makes the WebSocket frame. */
interface EncodingAdapter {
  _encode(packet: object, options: object): unknown[];
}

/** How one connection takes its events. */
export interface Variant {
  encoding: Encoding;
  /** Whether `log` events carry their offset as a last argument. */
  offsets: boolean;
}

/** One event, encoded at most once per variant for all who hear it. */
export class Frame {
  readonly #encoded = new Map<string, Packets>();
  readonly about: Filterable;

  constructor(
    private readonly namespace: Namespace,
    readonly envelope: Envelope,
  ) {
    this.about = filterable(envelope);
  }

  packets({ encoding, offsets }: Variant): Packets {
    const { sequence_id, event_type } = this.envelope;
    const offset = offsets && events[event_type].delivery === "log" ? sequence_id : undefined;
    const key = offset === undefined ? encoding : `${encoding}+offset`;
    let packets = this.#encoded.get(key);
    if (!packets) {
      const data = [event_type, this.envelope, ...(offset === undefined ? [] : [offset])];
      packets = this.#encode({ type: PacketType.EVENT, nsp: this.namespace.name, data }, encoding);
      this.#encoded.set(key, packets);
    }
    return packets;
  }

  #encode(packet: object, encoding: Encoding): Packets {
    const options = { preEncoded: true as const };
    if (encoding === "messagepack") return { packets: [encodeMessagePack(packet)], options };
    const adapter = this.namespace.adapter as unknown as EncodingAdapter;
    return { packets: adapter._encode(packet, options), options };
  }
}
