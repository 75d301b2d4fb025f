import type { Chunk, ChunkMaker, Gap } from "./terminal-item.js";

const SECOND_MS = 1000;
/** Times are kept with this accuracy. */
const STEP_MS = 10;
/** What was dropped is announced after this at the latest. */
const ANNOUNCE_MS = 250;

export interface ForeignOptions {
  /** 0: as many as there are. */
  bytesPerSecond: number;
  chunks: Pick<ChunkMaker, "make">;
  hear(item: Chunk | Gap): void;
}

/**
 * What workers write that count no offsets, and that nothing slows down: this node counts, from 0 when it begins to
 * listen. What is over the limit is dropped, and its range said.
 */
export class ForeignOutput {
  /** What passed in the last second, the oldest first. */
  readonly #passed: { at: number; bytes: number }[] = [];
  #bytes = 0;
  #excess: Gap | undefined;
  #timer: NodeJS.Timeout | undefined;
  /** The offset of the next byte; nothing while there was none. */
  next: number | undefined;

  constructor(private readonly options: ForeignOptions) {}

  take(stream: Chunk["stream"], data: Uint8Array): void {
    for (const chunk of this.options.chunks.make(stream, this.next ?? 0, data)) {
      this.next = chunk.to;
      if (this.#passes(chunk.data.byteLength, performance.now())) {
        this.announce();
        this.options.hear(chunk);
      } else {
        const from = this.#excess?.from ?? chunk.from;
        this.#excess = { kind: "gap", from, to: chunk.to, reason: "rate_limit" };
        this.#timer ??= setTimeout(() => this.announce(), ANNOUNCE_MS);
      }
    }
  }

  /** Says what was dropped until now. */
  announce(): void {
    this.stop();
    const excess = this.#excess;
    this.#excess = undefined;
    if (excess) this.options.hear(excess);
  }

  stop(): void {
    clearTimeout(this.#timer);
    this.#timer = undefined;
  }

  #passes(bytes: number, now: number): boolean {
    const { bytesPerSecond } = this.options;
    if (bytesPerSecond === 0) return true;
    while (this.#passed[0] && this.#passed[0].at <= now - SECOND_MS)
      this.#bytes -= this.#passed.shift()?.bytes ?? 0;
    if (this.#bytes + bytes > bytesPerSecond) return false;
    this.#bytes += bytes;
    const last = this.#passed.at(-1);
    if (last && now - last.at < STEP_MS) last.bytes += bytes;
    else this.#passed.push({ at: now, bytes });
    return true;
  }
}
