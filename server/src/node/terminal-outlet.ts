import { limits } from "@agentwire/shared";
import type { Exit } from "./connection.js";
import type { End, Item } from "./terminal-item.js";

export interface TerminalExit extends Pick<Exit, "open" | "show" | "say"> {
  /** Bytes of terminal output that wait. */
  readonly waitingOutput: number;
  /** With `only`: resolves when no terminal output waits, whatever else does. */
  drained(only?: "bytes"): Promise<void>;
}

/** While so much output waits for a connection at the gate, which has room for few messages, more waits here. */
const WAITING_BYTES = 32_768;

/**
 * The way out of one terminal to one viewer. What comes while the viewer pauses, or faster than it reads, waits here, up
 * to 1 MiB; of more the oldest goes, and the range is announced in its place.
 */
export class TerminalOutlet {
  #waiting: Item[] = [];
  #bytes = 0;
  /** What went of the oldest. */
  #lost: { from: number; to: number; reason: string } | undefined;
  #paused = false;
  #pumping = false;
  #closed = false;

  constructor(
    private readonly task_id: string,
    private readonly exit: TerminalExit,
    /** Called when the end was said, and has left. */
    private readonly onEnded: () => void,
  ) {}

  /** Each begins where the one before it ended. */
  push(item: Item): void {
    if (this.#closed) return;
    const direct = !this.#paused && !this.#pumping && this.exit.waitingOutput < WAITING_BYTES;
    if (direct && item.kind === "bytes") return this.exit.show(item.event);
    this.#waiting.push(item);
    this.#bytes += sizeOf(item);
    while (this.#bytes > limits.pausedBytes) this.#loseOldest();
    void this.#pump();
  }

  ready(offset: number): void {
    this.exit.say("STREAM_READY", { task_id: this.task_id, offset });
  }

  pause(): void {
    this.#paused = true;
    this.exit.say("STREAM_PAUSED", { task_id: this.task_id });
  }

  resume(): void {
    this.#paused = false;
    this.exit.say("STREAM_RESUMED", { task_id: this.task_id });
    void this.#pump();
  }

  /** Nothing comes out any more. */
  close(): void {
    this.#closed = true;
    this.#waiting = [];
    this.#lost = undefined;
  }

  #loseOldest(): void {
    const oldest = this.#waiting.shift();
    if (!oldest || oldest.kind === "end") return;
    this.#bytes -= sizeOf(oldest);
    const reason = this.#lost?.reason ?? (this.#paused ? "paused" : "backpressure");
    this.#lost = { from: this.#lost?.from ?? oldest.from, to: oldest.to, reason };
  }

  async #pump(): Promise<void> {
    if (this.#pumping) return;
    this.#pumping = true;
    while (!this.#paused && this.exit.open && (this.#lost || this.#waiting.length > 0)) {
      const [next] = this.#waiting;
      if (this.#lost || next?.kind !== "bytes" || this.exit.waitingOutput >= WAITING_BYTES) {
        // What the server itself says would go ahead of bytes that wait at the gate.
        await this.exit.drained("bytes");
        if (this.#paused || this.#closed) break;
        if (this.#sayLoss()) continue;
      }
      const item = this.#waiting.shift();
      if (!item) continue;
      this.#bytes -= sizeOf(item);
      if (item.kind === "bytes") this.exit.show(item.event);
      else if (item.kind === "gap") this.#say(item);
      else await this.#end(item);
    }
    this.#pumping = false;
  }

  /** @returns whether there was one */
  #sayLoss(): boolean {
    const lost = this.#lost;
    this.#lost = undefined;
    if (lost) this.#say(lost);
    return lost !== undefined;
  }

  #say({ from, to, reason }: { from: number; to: number; reason: string }): void {
    this.exit.say("BYTES_DROPPED", { task_id: this.task_id, from, to, reason });
  }

  async #end({ exit_code, reason }: End): Promise<void> {
    this.exit.say("STREAM_END", {
      task_id: this.task_id,
      ...(exit_code !== undefined && { exit_code }),
      ...(reason !== undefined && { reason }),
    });
    await this.exit.drained();
    this.onEnded();
  }
}

/** A notice, too, weighs something: there could be any number of them. */
const sizeOf = (item: Item): number => (item.kind === "bytes" ? Math.max(item.data.byteLength, 64) : 64);
