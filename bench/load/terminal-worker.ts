import { createHash, randomFillSync } from "node:crypto";
import { once } from "node:events";
import { setTimeout as pause } from "node:timers/promises";
import { createEmitter } from "@agentwire/emitter";
import { limits } from "@agentwire/shared";
import { io } from "socket.io-client";
import { answerQuestions } from "../child.js";
import { microseconds } from "../clock.js";

/** Write so many bytes a second for so long, in chunks whose first bytes say when they were written. */
export interface TerminalWork {
  side: "us" | "stock";
  /** `us`: Redis; `stock`: a node. */
  url: string;
  task: string;
  bytesPerSecond: number;
  seconds: number;
}

export interface TerminalWritten {
  bytes: number;
  hash: string;
  /** The most that a chunk left after its time. */
  lateMs: number;
}

async function openSink({ side, url, task }: TerminalWork): Promise<(chunk: Buffer) => Promise<void>> {
  if (side === "stock") {
    const socket = io(`${url}/terminal`, { transports: ["websocket"], auth: { task } });
    await new Promise<void>((resolve) => socket.once("connect", () => resolve()));
    return async (chunk) => void socket.emit("output", chunk);
  }
  const terminal = createEmitter({ redis: url })
    .task({ task_id: task, agent_id: "a1", project_id: "p1" })
    .terminal();
  return async (chunk) => {
    if (!terminal.stdout.write(chunk)) await once(terminal.stdout, "drain");
  };
}

let sink: Promise<(chunk: Buffer) => Promise<void>> | undefined;

/** The first question opens the terminal, so that viewers find it; the second writes. */
answerQuestions<TerminalWork & { ask: "open" | "write" }>(async (work) => {
  sink ??= openSink(work);
  const write = await sink;
  if (work.ask === "open") return true;
  const hash = createHash("sha256");
  const count = Math.floor((work.bytesPerSecond * work.seconds) / limits.chunkBytes);
  const began = microseconds();
  let late = 0;
  for (let n = 0; n < count; n++) {
    const due = began + (n * limits.chunkBytes * 1e6) / work.bytesPerSecond;
    const early = due - microseconds();
    if (early > 1000) await pause(early / 1000);
    late = Math.max(late, microseconds() - due);
    const chunk = randomFillSync(Buffer.allocUnsafe(limits.chunkBytes));
    chunk.writeDoubleBE(microseconds(), 0);
    hash.update(chunk);
    await write(chunk);
  }
  return {
    bytes: count * limits.chunkBytes,
    hash: hash.digest("hex"),
    lateMs: late / 1000,
  } satisfies TerminalWritten;
});
