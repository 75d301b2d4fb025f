import { limits } from "@agentwire/shared";
import type { ChunkMaker, Item } from "./terminal-item.js";
import type { TerminalOutlet } from "./terminal-outlet.js";
import type { TailListener } from "./terminal-tail.js";

export interface TerminalViewerOptions {
  /** Where the viewer goes on, if it has been here before. */
  from: number | undefined;
  outlet: Pick<TerminalOutlet, "push" | "ready">;
  chunks: Pick<ChunkMaker, "after">;
  /** Asks the worker. @returns what ends the asking */
  askTail(from: number | undefined, listener: TailListener): () => void;
  /** The offset of the next live byte, where one is known. */
  next(): number | undefined;
}

/**
 * One viewer of one terminal: stitches what the worker says again to what comes live. Of the stream each byte is handed
 * on once, in order, or its range is announced.
 */
export class TerminalViewer {
  /** The offset of the next byte for this viewer; nothing before STREAM_READY. */
  #next: number | undefined;
  /** Nobody said where the stream is: it is seen at the next byte. */
  #guessed = false;
  /** What came live while the worker is asked. */
  #held: Item[] | undefined = [];
  #heldBytes = 0;
  #stopAsking: (() => void) | undefined;

  #from: number | undefined;

  constructor(private readonly options: TerminalViewerOptions) {
    this.#from = options.from;
  }

  /** Begins: the node hears what comes live. Again, after it may have missed something. */
  begin(): void {
    this.#stopAsking?.();
    this.#held ??= [];
    this.#ask(this.#next ?? this.#from);
  }

  /** Begins without asking: there is no worker that could answer. */
  beginAtOnce(): void {
    this.#goLive();
  }

  /** Takes what comes live. */
  hear(item: Item): void {
    if (!this.#held) return this.#take(item);
    this.#held.push(item);
    this.#heldBytes += size(item);
    while (this.#heldBytes > limits.pausedBytes) this.#heldBytes -= size(this.#held.shift() as Item);
  }

  leave(): void {
    this.#stopAsking?.();
    this.#stopAsking = undefined;
  }

  #ask(from: number | undefined): void {
    this.#stopAsking = this.options.askTail(from, {
      chunk: (chunk) => {
        this.#startAt(chunk.from);
        this.#pass(chunk, "trimmed");
      },
      done: (offset) => {
        this.#stopAsking = undefined;
        // It counts from anew: what the viewer has is of another stream.
        if (this.#next === undefined && offset !== undefined && from !== undefined && offset < from)
          return this.#askAnew();
        if (offset !== undefined) {
          this.#startAt(offset);
          this.#skipTo(offset, "trimmed");
        }
        this.#goLive();
      },
    });
  }

  #askAnew(): void {
    this.#from = undefined;
    this.#ask(undefined);
  }

  /** STREAM_READY, where it was not said yet. */
  #startAt(offset: number): void {
    if (this.#next !== undefined) return;
    const from = this.#from;
    this.#next = Math.max(from ?? 0, offset);
    this.options.outlet.ready(this.#next);
    if (from !== undefined && from < this.#next)
      this.options.outlet.push({ kind: "gap", from, to: this.#next, reason: "trimmed" });
  }

  #goLive(): void {
    const held = this.#held ?? [];
    this.#held = undefined;
    this.#heldBytes = 0;
    if (this.#next === undefined) {
      const known = held[0]?.from ?? this.options.next();
      this.#guessed = known === undefined;
      // Without a worker that answers the node may count anew.
      if (known !== undefined && known < (this.#from ?? 0)) this.#from = undefined;
      this.#startAt(known ?? 0);
    }
    for (const item of held) this.#pass(item, "missed");
  }

  #take(item: Item): void {
    const next = this.#next ?? 0;
    if (this.#guessed && item.from < next) {
      this.#next = item.from;
      this.options.outlet.ready(item.from);
    }
    this.#guessed = false;
    if (item.from <= next) return this.#pass(item, "missed");
    // The node has missed something: the worker may still have it.
    this.#held = [item];
    this.#heldBytes = size(item);
    this.#ask(next);
  }

  #pass(item: Item, reason: string): void {
    this.#skipTo(item.from, reason);
    if (item.kind === "end") return this.options.outlet.push(item);
    const next = this.#next ?? 0;
    if (item.to <= next) return;
    this.#next = item.to;
    if (item.kind === "gap") this.options.outlet.push({ ...item, from: next });
    else this.options.outlet.push(this.options.chunks.after(next, item));
  }

  #skipTo(offset: number, reason: string): void {
    const next = this.#next ?? 0;
    if (offset <= next) return;
    this.options.outlet.push({ kind: "gap", from: next, to: offset, reason });
    this.#next = offset;
  }
}

const size = (item: Item): number => (item.kind === "bytes" ? item.data.byteLength : 0);
