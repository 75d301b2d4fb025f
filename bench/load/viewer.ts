import type { Envelope } from "@agentwire/shared";
import { io, type ManagerOptions, type SocketOptions } from "socket.io-client";
import { microseconds } from "../clock.js";
import { EVENT, readMessage } from "./event.js";

export interface Target {
  url: string;
  options: Partial<ManagerOptions & SocketOptions>;
  /** The event after which nothing published is missed. */
  joinedAt: string;
}

/** A browser: the stock client, and what became of each numbered event here. Numbers below 1 are the warm-up. */
export class Viewer {
  readonly joined: Promise<void>;
  readonly latencies: Float64Array;
  readonly #seen: Uint8Array;
  #last = Number.NEGATIVE_INFINITY;
  received = 0;
  disordered = 0;
  disconnects = 0;
  lastArrival = 0;
  /** Of one event's arguments as JSON. */
  bytes = 0;

  constructor({ url, options, joinedAt }: Target, expected: number) {
    this.latencies = new Float64Array(expected);
    this.#seen = new Uint8Array(expected + 1);
    const socket = io(url, { transports: ["websocket"], forceNew: true, reconnection: false, ...options });
    socket.on(EVENT, (...args: [Envelope<typeof EVENT>]) => this.#hear(args));
    socket.on("disconnect", () => this.disconnects++);
    this.joined = new Promise((resolve, reject) => {
      socket.once(joinedAt, () => resolve());
      socket.once("connect_error", reject);
    });
  }

  get warm(): boolean {
    return this.#last >= 0;
  }

  get missing(): number {
    return this.#seen.subarray(1).filter((times) => times === 0).length;
  }

  get repeated(): number {
    return this.#seen.reduce((sum, times) => sum + Math.max(0, times - 1), 0);
  }

  #hear(args: [Envelope<typeof EVENT>]): void {
    const now = microseconds();
    const { n, published } = readMessage(args[0].payload.message ?? "");
    const before = this.#last;
    this.#last = n;
    if (n < 1) return;
    if (n <= before) this.disordered++;
    this.bytes ||= JSON.stringify(args).length;
    this.#seen[n] = (this.#seen[n] ?? 0) + 1;
    // An extra copy finds no place in the array, and is counted as a repeat.
    this.latencies[this.received++] = (now - published) / 1000;
    this.lastArrival = now;
  }
}
