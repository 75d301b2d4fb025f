import { decode, encode } from "notepack.io";
import { z } from "zod";
import { AgentwireError } from "../codes.js";

/** Bytes that a task wrote. `offset` counts the bytes of both streams together, from the task's first one. */
export interface TerminalOutput {
  stream: "stdout" | "stderr";
  offset: number;
  data: Uint8Array;
}

/** The task writes nothing more after `offset`. */
export interface TerminalEnd {
  end: true;
  offset: number;
  exit_code?: number;
  reason?: string;
}

/** The end of a tail that was asked for: what comes after `offset` comes live. */
export interface TailEnd {
  tail_end: true;
  offset: number;
}

/** On `keys.terminalOutput` the first two, on `keys.terminalTail` all three: MessagePack, each a map. */
export type TerminalMessage = TerminalOutput | TerminalEnd | TailEnd;

/**
 * On `keys.terminalControl`, JSON, from nodes to the worker:
 * - `watch`: somebody watches. Said when the first viewer comes to a node, and every 5 s; the worker publishes for 15 s
 *   after the last one it heard.
 * - `tail`: says again what it still has, from this offset on (from the oldest where it is absent), on the channel
 *   `keys.terminalTail(request)`, then a `tail_end`. Whatever it had published before stands there; what it publishes
 *   after it comes live.
 */
export type TerminalControl = { type: "watch" } | { type: "tail"; request: string; from?: number };

const Offset = z.int().min(0);
const stream = z.enum(["stdout", "stderr"]);
const Bytes = z.instanceof(Uint8Array);
const Message = z.union([
  z.object({ stream, offset: Offset, data: Bytes }),
  z.object({
    end: z.literal(true),
    offset: Offset,
    exit_code: z.int().optional(),
    reason: z.string().max(256).optional(),
  }),
  z.object({ tail_end: z.literal(true), offset: Offset }),
]);
const Control = z.discriminatedUnion("type", [
  z.object({ type: z.literal("watch") }),
  z.object({ type: z.literal("tail"), request: z.string().regex(/^[\w-]{1,64}$/), from: Offset.optional() }),
]);
/** From foreign workers, which count no offsets. */
const Foreign = z.object({ stream, data: z.base64(), timestamp: z.string().optional() });
export type ForeignOutput = Omit<TerminalOutput, "offset">;

export function encodeTerminal(message: TerminalMessage): Buffer {
  return encode(
    "data" in message
      ? {
          ...message,
          data: Buffer.from(message.data.buffer, message.data.byteOffset, message.data.byteLength),
        }
      : message,
  );
}

/** @throws AgentwireError `INVALID_EVENT` for what is neither ours nor a foreign worker's JSON */
export function decodeTerminal(bytes: Buffer): TerminalMessage | ForeignOutput {
  try {
    if (bytes[0] !== 0x7b) return Message.parse(decode(bytes)) as TerminalMessage;
    const { stream, data } = Foreign.parse(JSON.parse(bytes.toString("utf8")));
    return { stream, data: Buffer.from(data, "base64") };
  } catch (cause) {
    throw new AgentwireError("INVALID_EVENT", "not terminal output", { cause });
  }
}

/** @throws AgentwireError `INVALID_EVENT` */
export function parseTerminalControl(text: string): TerminalControl {
  try {
    return Control.parse(JSON.parse(text)) as TerminalControl;
  } catch (cause) {
    throw new AgentwireError("INVALID_EVENT", "not terminal control", { cause });
  }
}
