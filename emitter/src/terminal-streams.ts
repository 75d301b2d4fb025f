import { Writable } from "node:stream";
import type { StreamName } from "./terminal-ring.js";

export interface StreamsOptions {
  /** How many bytes may be put now. */
  room(): number;
  put(stream: StreamName, data: Uint8Array): void;
}

type Done = (error: Error | null | undefined) => void;

interface Write {
  data: Uint8Array;
  done: () => void;
}

/** Two Writables whose bytes come out in the order in which they were written, as fast as there is room. */
export class TerminalStreams {
  readonly #options: StreamsOptions;
  readonly #turns = { next: 0 };
  readonly stdout: Writable;
  readonly stderr: Writable;
  readonly #both: TerminalStream[];

  constructor(options: StreamsOptions) {
    this.#options = options;
    const taken = () => this.take();
    const stdout = new TerminalStream("stdout", this.#turns, taken);
    const stderr = new TerminalStream("stderr", this.#turns, taken);
    this.stdout = stdout;
    this.stderr = stderr;
    this.#both = [stdout, stderr];
  }

  /** Puts what waits, as far as there is room. */
  take(): void {
    for (;;) {
      const stream = this.#next();
      const room = this.#options.room();
      if (!stream?.pending || (room <= 0 && stream.pending.data.length > 0)) return;
      const { data, done } = stream.pending;
      const piece = data.subarray(0, room);
      if (piece.length > 0) this.#options.put(stream.name, piece);
      if (piece.length < data.length) {
        stream.pending.data = data.subarray(piece.length);
      } else {
        stream.pending = undefined;
        stream.turns.shift();
        done();
      }
    }
  }

  /** Both take nothing more; settles when all that they took was put. */
  async end(): Promise<void> {
    const closed = this.#both.map(
      (stream) =>
        new Promise<void>((resolve) => {
          if (stream.closed) resolve();
          else stream.once("close", resolve);
        }),
    );
    for (const stream of this.#both) stream.end();
    await Promise.all(closed);
  }

  /** Whose turn it is; a stream whose write is still in its own buffer gives it to us in a moment. */
  #next(): TerminalStream | undefined {
    const waiting = this.#both.filter((stream) => stream.turns.length > 0 && !stream.isHeldBack);
    return waiting.sort((a, b) => (a.turns[0] as number) - (b.turns[0] as number))[0];
  }
}

class TerminalStream extends Writable {
  /** What has to be put before anything else of this stream. */
  pending: Write | undefined;
  /** When each write was made that is not yet put, counted over both streams. */
  readonly turns: number[] = [];
  readonly name: StreamName;
  readonly #order: { next: number };
  readonly #taken: () => void;

  constructor(name: StreamName, order: { next: number }, taken: () => void) {
    super();
    this.name = name;
    this.#order = order;
    this.#taken = taken;
  }

  /** Corked: who does that waits, and the other stream does not. */
  get isHeldBack(): boolean {
    return this.pending === undefined && this.writableCorked > 0;
  }

  // A Writable keeps what comes while it is busy in a buffer of its own, and the order between two is lost there.
  override write(chunk: unknown, done?: Done): boolean;
  override write(chunk: unknown, encoding: BufferEncoding, done?: Done): boolean;
  override write(...args: unknown[]): boolean {
    const write = () => super.write(...(args as Parameters<Writable["write"]>));
    if (this.writableEnded || this.destroyed) return write();
    this.turns.push(this.#order.next++);
    try {
      return write();
    } catch (error) {
      this.turns.pop();
      throw error;
    }
  }

  override _write(data: Buffer, _encoding: BufferEncoding, done: () => void): void {
    // What `end(data)` gave did not pass `write`.
    if (this.turns.length === 0) this.turns.push(this.#order.next++);
    this.pending = { data, done };
    this.#taken();
  }

  override _destroy(error: Error | null, done: (error: Error | null) => void): void {
    this.pending = undefined;
    this.turns.length = 0;
    done(error);
    this.#taken();
  }
}
