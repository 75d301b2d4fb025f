import { type Envelope, limits } from "@agentwire/shared";
import type { ForeignOutput as ForeignMessage, TerminalMessage } from "@agentwire/shared/redis";
import type { Outgoing } from "./connection.js";
import { ForeignOutput } from "./terminal-foreign.js";
import { ChunkMaker, type Item } from "./terminal-item.js";
import { askTail, type TailListener, type TailSource } from "./terminal-tail.js";
import type { TerminalViewer } from "./terminal-viewer.js";

/** What Redis says about a terminal. */
export interface TerminalState {
  /** Its task's, by all that say so. */
  projects: string[];
  /** Of the worker that writes it now; nothing where none of ours does. */
  attempt: string | undefined;
  leaseMs: number;
  ended?: { offset: number; exit_code?: number; reason?: string };
}

/** What a terminal needs of Redis. A channel is listened to until it is left; `listening` may be called again. */
export interface TerminalSource extends TailSource {
  listen(task: string, heard: (bytes: Buffer) => void, listening: () => void): void;
  deafen(task: string): void;
  /** Says that somebody watches. */
  watch(task: string): Promise<TerminalState>;
}

export interface TerminalOptions {
  task: string;
  source: TerminalSource;
  outgoing(namespace: string, envelope: Envelope): Outgoing;
  bytesPerSecond: number;
  maxMessageBytes: number;
  onError(error: unknown): void;
  /** It has ended: viewers who come now are not its. */
  onEnded(): void;
}

const BEAT_MS = 5000;
const LAST_BYTES_MS = 500;

/** One terminal that somebody on this node watches: hears what it writes, and hands it to its viewers. */
export class Terminal {
  readonly chunks: ChunkMaker;
  readonly #viewers = new Set<TerminalViewer>();
  readonly #foreign: ForeignOutput;
  #subscribed = false;
  #listening = false;
  /** Known from Redis since it listens. */
  #state: TerminalState | undefined;
  /** A worker that is not known before this may have been forgotten by Redis. */
  #graceUntil = 0;
  #beat: NodeJS.Timeout | undefined;
  #isEnding = false;
  #over = false;
  /** The offset of the next live byte. */
  #next: number | undefined;

  constructor(private readonly options: TerminalOptions) {
    const { task, outgoing, bytesPerSecond } = options;
    this.chunks = new ChunkMaker(task, outgoing);
    this.#foreign = new ForeignOutput({
      bytesPerSecond,
      chunks: this.chunks,
      hear: (item) => this.#tell(item),
    });
  }

  get next(): number | undefined {
    return this.#next;
  }

  get empty(): boolean {
    return this.#viewers.size === 0;
  }

  add(viewer: TerminalViewer): void {
    this.#viewers.add(viewer);
    if (this.#state) return this.#begin(viewer);
    if (this.#subscribed) return;
    this.#subscribed = true;
    this.options.source.listen(
      this.options.task,
      (bytes) => this.#hear(bytes),
      () => void this.#onListening(),
    );
  }

  remove(viewer: TerminalViewer): void {
    viewer.leave();
    if (this.#viewers.delete(viewer) && this.empty) this.#stop();
  }

  /** Asks the worker what it has written before. @returns what ends the asking */
  askTail(from: number | undefined, listener: TailListener): () => void {
    const { task, source, onError } = this.options;
    return askTail({ task, source, chunks: this.chunks, onError }, from, listener);
  }

  async #onListening(): Promise<void> {
    const again = this.#listening;
    this.#listening = true;
    if (again) this.#graceUntil = performance.now() + limits.terminalLeaseMs;
    await this.#watch();
    // Redis does not say: whoever writes here will be asked when it does.
    this.#state ??= { projects: [], attempt: undefined, leaseMs: 0 };
    for (const viewer of this.#viewers) this.#begin(viewer);
  }

  #begin(viewer: TerminalViewer): void {
    if (this.#state?.attempt === undefined) viewer.beginAtOnce();
    else viewer.begin();
  }

  async #watch(): Promise<void> {
    clearTimeout(this.#beat);
    let state: TerminalState | undefined;
    try {
      state = await this.options.source.watch(this.options.task);
    } catch (error) {
      this.options.onError(error);
    }
    if (this.#over || this.empty) return;
    // A lease that would end before the next look is looked at when it does.
    const leaseMs = state && state.leaseMs > 0 ? state.leaseMs + 50 : BEAT_MS;
    clearTimeout(this.#beat);
    this.#beat = setTimeout(() => void this.#watch(), Math.min(BEAT_MS, leaseMs));
    if (state) this.#judge(state);
  }

  #judge(state: TerminalState): void {
    const before = this.#state?.attempt;
    if (state.ended) {
      const { offset: from, ...how } = state.ended;
      // It may be known here sooner than the last bytes.
      if (!this.#isEnding && this.#next !== undefined && this.#next < from) {
        this.#isEnding = true;
        clearTimeout(this.#beat);
        this.#beat = setTimeout(() => void this.#watch(), LAST_BYTES_MS);
        return;
      }
      this.#end({ kind: "end", from, ...how });
    } else if (before !== undefined && state.attempt !== before) {
      // Gone, or another one has begun.
      if (state.attempt === undefined && performance.now() < this.#graceUntil) return;
      this.#end({ kind: "end", from: this.#next ?? 0, reason: "worker_lost" });
    } else this.#state = state;
  }

  #hear(bytes: Buffer): void {
    this.#guard(() => {
      const message = this.#decode(bytes);
      if ("tail_end" in message) return;
      if ("end" in message) {
        const { offset: from, exit_code, reason } = message;
        return this.#end({ kind: "end", from, exit_code, reason });
      }
      if (!("offset" in message)) {
        this.#foreign.take(message.stream, message.data);
        return;
      }
      for (const chunk of this.chunks.make(message.stream, message.offset, message.data)) this.#tell(chunk);
    });
  }

  #tell(item: Exclude<Item, { kind: "end" }>): void {
    this.#next = item.to;
    for (const viewer of this.#viewers) viewer.hear(item);
  }

  #end(end: Extract<Item, { kind: "end" }>): void {
    if (this.#over) return;
    this.#foreign.announce();
    this.#over = true;
    this.#stop();
    this.options.onEnded();
    for (const viewer of this.#viewers) viewer.hear(end);
  }

  #stop(): void {
    clearTimeout(this.#beat);
    this.#foreign.stop();
    if (this.#subscribed) this.options.source.deafen(this.options.task);
    this.#subscribed = false;
  }

  #decode(bytes: Buffer): TerminalMessage | ForeignMessage {
    if (bytes.byteLength > this.options.maxMessageBytes) throw new Error("terminal output is too large");
    return this.options.source.decode(bytes);
  }

  #guard(hear: () => void): void {
    try {
      hear();
    } catch (error) {
      this.options.onError(error);
    }
  }
}
