import { limits } from "@agentwire/shared";
import type { TerminalOutput } from "@agentwire/shared/redis";

export type StreamName = TerminalOutput["stream"];

const CODES: Record<StreamName, number> = { stdout: 0, stderr: 1 };

/** The last bytes of a terminal, both streams in one offset space, each byte with the stream it belongs to. */
export class TerminalRing {
  readonly size: number;
  #bytes: Uint8Array | undefined;
  #streams: Uint8Array | undefined;
  #end = 0;

  constructor(size: number = limits.terminalTailBytes) {
    this.size = size;
  }

  /** The offset of the oldest byte that is still here. */
  get start(): number {
    return Math.max(0, this.#end - this.size);
  }

  /** The offset after the newest byte. */
  get end(): number {
    return this.#end;
  }

  put(stream: StreamName, data: Uint8Array): void {
    this.#bytes ??= new Uint8Array(this.size);
    this.#streams ??= new Uint8Array(this.size);
    const kept = data.subarray(Math.max(0, data.length - this.size));
    this.#end += data.length - kept.length;
    for (let done = 0; done < kept.length; ) {
      const at = this.#end % this.size;
      const piece = kept.subarray(done, done + this.size - at);
      this.#bytes.set(piece, at);
      this.#streams.fill(CODES[stream], at, at + piece.length);
      this.#end += piece.length;
      done += piece.length;
    }
  }

  /**
   * What stands at `offset`, which must be from {@link start} up to but not including {@link end}: at most a chunk, all
   * of one stream, not beyond `until`. `data` is valid until the next {@link put}.
   */
  chunkAt(offset: number, until = this.#end): TerminalOutput {
    if (!this.#bytes || !this.#streams || offset < this.start || offset >= this.#end) {
      throw new RangeError(`no byte at ${offset}: from ${this.start} to ${this.#end}`);
    }
    const at = offset % this.size;
    const most = Math.min(limits.chunkBytes, until - offset, this.size - at);
    const code = this.#streams[at] as number;
    const other = this.#streams.subarray(at, at + most).indexOf(1 - code);
    const length = other < 0 ? most : other;
    const stream = code === CODES.stdout ? "stdout" : "stderr";
    return { stream, offset, data: this.#bytes.subarray(at, at + length) };
  }
}
