/** Opcodes of WebSocket frames (RFC 6455, 5.2). */
export const TEXT = 1;
export const BINARY = 2;
export const CLOSE = 8;
export const PING = 9;
export const PONG = 10;

/** One frame as a client writes it, masked. */
export function maskedFrame(
  opcode: number,
  payload: Buffer,
  mask: Buffer = Buffer.from([7, 1, 9, 4]),
): Buffer {
  const { length } = payload;
  const head = Buffer.alloc(length < 126 ? 2 : length < 65_536 ? 4 : 10);
  head[0] = 0x80 | opcode;
  head[1] = 0x80 | (head.length === 2 ? length : head.length === 4 ? 126 : 127);
  if (head.length === 4) head.writeUInt16BE(length, 2);
  if (head.length === 10) head.writeBigUInt64BE(BigInt(length), 2);
  return Buffer.concat([head, mask, masked(payload, mask)]);
}

export function masked(payload: Buffer, mask: Buffer): Buffer {
  return Buffer.from(payload.map((byte, n) => byte ^ (mask[n % 4] as number)));
}

export interface ReadFrame {
  fin: boolean;
  /** RSV1 to RSV3: nothing that was not negotiated may set them. */
  reserved: number;
  opcode: number;
  isMasked: boolean;
  /** What the head says. */
  length: number;
  /** Unmasked; nothing when not all of it is there. */
  payload: Buffer | undefined;
  end: number;
}

/** The frame that begins at `from`; nothing when not even its head is there. */
export function readFrame(bytes: Buffer, from = 0): ReadFrame | undefined {
  if (bytes.length - from < 2) return undefined;
  const [first = 0, second = 0] = bytes.subarray(from, from + 2);
  const isMasked = (second & 0x80) !== 0;
  const about = { fin: (first & 0x80) !== 0, reserved: first & 0x70, opcode: first & 0x0f, isMasked };
  const short = second & 0x7f;
  const more = short === 126 ? 2 : short === 127 ? 8 : 0;
  let at = from + 2 + more;
  if (bytes.length < at) return { ...about, length: short, payload: undefined, end: at };
  const length =
    more === 2 ? bytes.readUInt16BE(from + 2) : more === 8 ? Number(bytes.readBigUInt64BE(from + 2)) : short;
  const mask = isMasked ? bytes.subarray(at, at + 4) : undefined;
  if (mask) at += 4;
  const end = at + length;
  if (bytes.length < end) return { ...about, length, payload: undefined, end };
  const payload = bytes.subarray(at, end);
  return { ...about, length, payload: mask ? masked(payload, mask) : payload, end };
}
