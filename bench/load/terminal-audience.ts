import { createHash, type Hash } from "node:crypto";
import { setTimeout as pause } from "node:timers/promises";
import { Manager } from "socket.io-client";
import * as msgpack from "socket.io-msgpack-parser";
import { answerQuestions } from "../child.js";
import { microseconds } from "../clock.js";
import { percentile } from "../stats.js";

/** How to watch: `us` in the terminal's own namespace, `stock` in the room that the bench's control makes. */
export interface TerminalTarget {
  url: string;
  namespace: string;
  query: Record<string, string>;
  auth: Record<string, string>;
  messagePack: boolean;
  event: "TERMINAL_OUTPUT" | "output";
}

export type TerminalAsk =
  | { ask: "join"; targets: TerminalTarget[] }
  | { ask: "complete"; bytes: number; patienceMs: number }
  | { ask: "result" };

export interface TerminalSeen {
  /** Bytes of each viewer. */
  bytes: number[];
  hashes: string[];
  p50: number;
  p95: number;
  disconnects: number;
}

/** The worker writes the time into the first bytes of each chunk. */
const TIME_BYTES = 8;

class TerminalViewer {
  readonly joined: Promise<void>;
  readonly #hash: Hash = createHash("sha256");
  bytes = 0;
  disconnects = 0;
  readonly latencies: number[] = [];

  constructor({ url, namespace, query, auth, messagePack, event }: TerminalTarget) {
    const manager = new Manager(url, {
      transports: ["websocket"],
      reconnection: false,
      query,
      ...(messagePack && { parser: msgpack }),
    });
    const socket = manager.socket(namespace, { auth });
    this.joined = new Promise((resolve, reject) => {
      socket.once(event === "output" ? "connect" : "STREAM_READY", () => resolve());
      socket.once("connect_error", reject);
    });
    socket.on("disconnect", () => this.disconnects++);
    socket.on(event, (said: { payload: { data: Uint8Array } } | Uint8Array) =>
      this.#take("payload" in said ? said.payload.data : said),
    );
    socket.connect();
  }

  get hash(): string {
    return this.#hash.copy().digest("hex");
  }

  #take(data: Uint8Array): void {
    const bytes = Buffer.from(data.buffer, data.byteOffset, data.byteLength);
    if (bytes.length >= TIME_BYTES) this.latencies.push(microseconds() - bytes.readDoubleBE(0));
    this.#hash.update(bytes);
    this.bytes += bytes.length;
  }
}

const viewers: TerminalViewer[] = [];

answerQuestions<TerminalAsk>(async (question) => {
  switch (question.ask) {
    case "join":
      viewers.push(...question.targets.map((target) => new TerminalViewer(target)));
      await Promise.all(viewers.map(({ joined }) => joined));
      return true;
    case "complete": {
      const end = Date.now() + question.patienceMs;
      while (!viewers.every(({ bytes }) => bytes >= question.bytes)) {
        if (Date.now() > end) return false;
        await pause(20);
      }
      return true;
    }
    case "result": {
      const sorted = Float64Array.from(viewers.flatMap(({ latencies }) => latencies)).sort();
      return {
        bytes: viewers.map(({ bytes }) => bytes),
        hashes: viewers.map(({ hash }) => hash),
        p50: percentile(sorted, 0.5) / 1000,
        p95: percentile(sorted, 0.95) / 1000,
        disconnects: viewers.reduce((sum, { disconnects }) => sum + disconnects, 0),
      } satisfies TerminalSeen;
    }
  }
});
