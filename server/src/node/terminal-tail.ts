import { randomUUID } from "node:crypto";
import type { ForeignOutput, TerminalMessage } from "@agentwire/shared/redis";
import type { Chunk, ChunkMaker } from "./terminal-item.js";

/** What asking a worker needs of Redis. `listening` may be called again, after an outage. */
export interface TailSource {
  listenToTail(request: string, heard: (bytes: Buffer) => void, listening: () => void): void;
  deafenToTail(request: string): void;
  /** @throws AgentwireError for what is no output */
  decode(bytes: Buffer): TerminalMessage | ForeignOutput;
  /** @returns whether somebody heard it */
  askTail(task: string, request: string, from: number | undefined): Promise<boolean>;
}

/** Bytes that a worker is asked to say again, for one viewer. */
export interface TailListener {
  chunk(chunk: Chunk): void;
  /** @param offset what comes after it comes live; absent where nobody answers */
  done(offset?: number): void;
}

export interface TailOptions {
  task: string;
  source: TailSource;
  chunks: Pick<ChunkMaker, "make">;
  onError(error: unknown): void;
}

/** So long a worker may keep silent. */
const SILENT_MS = 2000;
/** One that does not hear just now may be about to listen again. */
const ASK_AGAIN_MS = 250;

/** Asks a worker what it has written before. @returns what ends the asking */
export function askTail(
  { task, source, chunks, onError }: TailOptions,
  from: number | undefined,
  listener: TailListener,
): () => void {
  const request = randomUUID();
  let silence: NodeJS.Timeout | undefined;
  let again: NodeJS.Timeout | undefined;
  let isOver = false;

  const stop = () => {
    isOver = true;
    clearTimeout(silence);
    clearTimeout(again);
    source.deafenToTail(request);
  };
  const end = (offset?: number) => {
    stop();
    listener.done(offset);
  };
  const wait = () => {
    clearTimeout(silence);
    silence = setTimeout(end, SILENT_MS);
  };
  const hear = (message: TerminalMessage | ForeignOutput) => {
    wait();
    if ("tail_end" in message) end(message.offset);
    else if ("data" in message && "offset" in message)
      for (const one of chunks.make(message.stream, message.offset, message.data)) listener.chunk(one);
  };
  const ask = async () => {
    try {
      const isHeard = await source.askTail(task, request, from);
      if (!isHeard && !isOver) again = setTimeout(() => void ask(), ASK_AGAIN_MS);
    } catch (error) {
      onError(error);
    }
  };

  wait();
  source.listenToTail(
    request,
    (bytes) => {
      try {
        hear(source.decode(bytes));
      } catch (error) {
        onError(error);
      }
    },
    () => void ask(),
  );
  return stop;
}
