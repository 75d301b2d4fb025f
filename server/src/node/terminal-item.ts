import { randomUUID } from "node:crypto";
import { type Envelope, limits, type PayloadOf, stamp, terminalNamespace } from "@agentwire/shared";
import type { Outgoing } from "./connection.js";

type Stream = PayloadOf<"TERMINAL_OUTPUT">["stream"];

/** Bytes of a terminal, from this one up to, not including, that one. */
export interface Chunk {
  kind: "bytes";
  from: number;
  to: number;
  stream: Stream;
  data: Uint8Array;
  /** Encoded once, for all who hear it. */
  event: Outgoing;
}

/** Bytes that will not come. */
export interface Gap {
  kind: "gap";
  from: number;
  to: number;
  reason: string;
}

/** Nothing comes after `from`. */
export interface End {
  kind: "end";
  from: number;
  exit_code?: number | undefined;
  reason?: string | undefined;
}

export type Item = Chunk | Gap | End;

/** Makes events of one terminal's bytes. */
export class ChunkMaker {
  readonly #namespace: string;

  constructor(
    private readonly task_id: string,
    private readonly outgoing: (namespace: string, envelope: Envelope) => Outgoing,
  ) {
    this.#namespace = terminalNamespace(task_id);
  }

  /** One chunk, or several where a worker says more at once than one event holds. */
  *make(stream: Stream, offset: number, data: Uint8Array): Generator<Chunk> {
    for (let at = 0; at < data.byteLength; at += limits.chunkBytes)
      yield this.#chunk(stream, offset + at, data.subarray(at, at + limits.chunkBytes));
  }

  /** What of it comes at this offset or later. */
  after(offset: number, chunk: Chunk): Chunk {
    if (chunk.from >= offset) return chunk;
    return this.#chunk(chunk.stream, offset, chunk.data.subarray(offset - chunk.from));
  }

  #chunk(stream: Stream, offset: number, data: Uint8Array): Chunk {
    const { task_id } = this;
    const payload = { task_id, stream, data: data as Uint8Array<ArrayBuffer>, offset };
    const envelope = stamp("TERMINAL_OUTPUT", randomUUID(), payload);
    const event = this.outgoing(this.#namespace, envelope);
    return { kind: "bytes", from: offset, to: offset + data.byteLength, stream, data, event };
  }
}
