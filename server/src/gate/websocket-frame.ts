import { constants, deflateRawSync } from "node:zlib";

const TEXT = 0x1;
const BINARY = 0x2;
const FIN = 0x80;
/** Set on a compressed message (RFC 7692, 6). */
const RSV1 = 0x40;

/** Smaller messages are not worth the work: the size at which stock servers begin to compress, too. */
export const COMPRESS_FROM_BYTES = 1024;
/** Above this the fastest level: deflating is synchronous, and everybody waits for it. */
const FAST_FROM_BYTES = 65_536;

/**
 * One message as it stands on the wire from a server (RFC 6455, 5.2), in one piece: one write, not two.
 * @param compress whether it is compressed if it is large enough
 */
export function webSocketFrame(message: Buffer, text: boolean, compress: boolean): Buffer {
  const compressed = compress && message.length >= COMPRESS_FROM_BYTES;
  const payload = compressed ? deflateMessage(message) : message;
  const { length } = payload;
  const extended = length < 126 ? 0 : length < 65_536 ? 2 : 8;
  const frame = Buffer.allocUnsafe(2 + extended + length);
  frame[0] = FIN | (compressed ? RSV1 : 0) | (text ? TEXT : BINARY);
  frame[1] = extended === 0 ? length : extended === 2 ? 126 : 127;
  if (extended === 2) frame.writeUInt16BE(length, 2);
  if (extended === 8) frame.writeBigUInt64BE(BigInt(length), 2);
  payload.copy(frame, 2 + extended);
  return frame;
}

/**
 * Deflates one message by itself, as a receiver that negotiated `server_no_context_takeover` expects it: it refers to
 * nothing before it, so one result serves everybody. The empty block at its end stays away (RFC 7692, 7.2.1).
 */
export function deflateMessage(payload: Buffer): Buffer {
  const level = payload.length < FAST_FROM_BYTES ? constants.Z_DEFAULT_COMPRESSION : constants.Z_BEST_SPEED;
  const deflated = deflateRawSync(payload, { level, finishFlush: constants.Z_SYNC_FLUSH });
  return deflated.subarray(0, deflated.length - 4);
}
