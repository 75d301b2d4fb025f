import { type Envelope, events } from "@agentwire/shared";
import type { Namespace } from "socket.io";
import { PacketType } from "socket.io-parser";

/** What Engine.IO takes for one message: the encoded packets, and the ready WebSocket frame in the options. */
export interface Packets {
  packets: unknown[];
  options: { preEncoded: true; wsPreEncodedFrame?: unknown };
}

/** The adapter's own encoding, which also makes the WebSocket frame. */
interface EncodingAdapter {
  _encode(packet: object, options: object): unknown[];
}

/** One event, encoded at most once for all who hear it (twice, where some of them take no offset argument). */
export class Frame {
  #withOffset: Packets | undefined;
  #bare: Packets | undefined;

  constructor(
    private readonly namespace: Namespace,
    readonly envelope: Envelope,
  ) {}

  /** @param offsets whether `log` events carry their offset as a last argument */
  packets(offsets: boolean): Packets {
    const { sequence_id, event_type } = this.envelope;
    if (offsets && sequence_id && events[event_type].delivery === "log") {
      this.#withOffset ??= this.#encode([event_type, this.envelope, sequence_id]);
      return this.#withOffset;
    }
    this.#bare ??= this.#encode([event_type, this.envelope]);
    return this.#bare;
  }

  #encode(data: unknown[]): Packets {
    const options = { preEncoded: true as const };
    const packet = { type: PacketType.EVENT, nsp: this.namespace.name, data };
    return {
      packets: (this.namespace.adapter as unknown as EncodingAdapter)._encode(packet, options),
      options,
    };
  }
}
