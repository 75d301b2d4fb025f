import { createHash } from "node:crypto";
import type { Envelope, EventType, PayloadOf } from "@agentwire/shared";
import { limits, terminalNamespace } from "@agentwire/shared";
import { encodeTerminal, parseTerminalControl, type RedisKeys } from "@agentwire/shared/redis";
import type { Redis } from "ioredis";
import { Manager, type Socket } from "socket.io-client";
import msgpack from "socket.io-msgpack-parser";
import type { Cluster } from "./cluster.js";
import { onTeardown } from "./teardown.js";
import { token } from "./token.js";
import { until } from "./wait.js";

export const hashOf = (bytes: Uint8Array): string => createHash("sha256").update(bytes).digest("hex");

/** Bytes that look like nothing else, the same for one seed. */
export function someBytes(length: number, seed = 1): Buffer {
  const bytes = Buffer.alloc(length);
  let state = seed >>> 0;
  for (let n = 0; n < length; n++) {
    state = (Math.imul(state, 1_664_525) + 1_013_904_223) >>> 0;
    bytes[n] = state >>> 24;
  }
  return bytes;
}

/** Says what an emitter says, and answers what nodes ask it. */
export async function playWorker(
  cluster: Cluster,
  task: string,
  { project = "p1", leaseMs = 60_000, answers = true } = {},
) {
  const { keys } = cluster;
  const redis = cluster.client();
  const subscriber = cluster.client();
  const asked: ReturnType<typeof parseTerminalControl>[] = [];
  let written = Buffer.alloc(0);
  /** Where the tail begins that it still has. */
  let keeps = 0;
  subscriber.on("message", (_channel, text) => {
    const control = parseTerminalControl(text);
    asked.push(control);
    if (control.type !== "tail" || !worker.answers) return;
    const channel = keys.terminalTail(control.request);
    // Chunks as it keeps them: the first one may begin before what is asked for.
    const wanted = Math.floor((control.from ?? 0) / limits.chunkBytes) * limits.chunkBytes;
    for (let at = Math.max(keeps, wanted); at < written.length; at += limits.chunkBytes) {
      const data = written.subarray(at, at + limits.chunkBytes);
      void redis.publish(channel, encodeTerminal({ stream: "stdout", offset: at, data }));
    }
    void redis.publish(channel, encodeTerminal({ tail_end: true, offset: written.length }));
  });
  await subscriber.subscribe(keys.terminalControl(task));
  await redis.set(keys.task(task), project);
  await redis.hset(keys.terminal(task), { project_id: project, agent_id: "a1", attempt: "1" });
  await redis.pexpire(keys.terminal(task), leaseMs);
  const worker = {
    answers,
    asked,
    get written(): Buffer {
      return written;
    },
    /** Writes; `silently`: as if nobody had watched, or Redis had lost it. */
    async write(data: Buffer, { silently = false, size = limits.chunkBytes } = {}): Promise<void> {
      const start = written.length;
      written = Buffer.concat([written, data]);
      if (silently) return;
      const sent: Promise<unknown>[] = [];
      for (let at = 0; at < data.length; at += size) {
        const message = { stream: "stdout", offset: start + at, data: data.subarray(at, at + size) } as const;
        sent.push(redis.publish(keys.terminalOutput(task), encodeTerminal(message)));
      }
      await Promise.all(sent);
    },
    /** As fast as a worker of ours does. */
    async stream(data: Buffer, bytesPerMs = 1000): Promise<void> {
      for (let at = 0; at < data.length; at += 16_384) {
        await worker.write(data.subarray(at, at + 16_384));
        await new Promise((resolve) => setTimeout(resolve, 16_384 / bytesPerMs));
      }
    },
    forgetBefore(offset: number): void {
      keeps = offset;
    },
    async end(how: { exit_code?: number; reason?: string } = {}, { silently = false } = {}): Promise<void> {
      const offset = written.length;
      if (!silently)
        await redis.publish(keys.terminalOutput(task), encodeTerminal({ end: true, offset, ...how }));
      await redis.hset(keys.terminal(task), { ended: "1", offset, ...how });
      await redis.pexpire(keys.terminal(task), limits.terminalEndKeptMs);
    },
    stopListening: () => subscriber.unsubscribe(),
  };
  return worker;
}

export type PlayedWorker = Awaited<ReturnType<typeof playWorker>>;

interface TerminalViewerOptions {
  user?: string;
  projects?: string[];
  encoding?: "json" | "messagepack";
  from?: unknown;
  /** Instead of a connection of its own. */
  manager?: Manager;
}

export function openConnection(
  url: string,
  { user = "user-1", projects = ["p1"], encoding = "json" }: TerminalViewerOptions = {},
): Manager {
  const manager = new Manager(url, {
    transports: ["websocket"],
    reconnection: false,
    autoConnect: false,
    query: { token: token(user, projects), encoding },
    ...(encoding === "messagepack" && { parser: msgpack }),
  });
  onTeardown(() => manager._close());
  return manager;
}

/** A stock client of one terminal, and what it received. */
export class TerminalWatcher {
  readonly socket: Socket;
  readonly manager: Manager;
  readonly received: Envelope[] = [];
  readonly errors: (Error & { data?: unknown })[] = [];
  readonly reasons: string[] = [];

  constructor(
    url: string,
    readonly task: string,
    options: TerminalViewerOptions = {},
  ) {
    this.manager = options.manager ?? openConnection(url, options);
    const auth = options.from === undefined ? {} : { auth: { from: options.from } };
    this.socket = this.manager.socket(terminalNamespace(task), auth);
    this.socket.on("connect_error", (error) => this.errors.push(error));
    this.socket.on("disconnect", (reason) => this.reasons.push(reason));
    this.socket.onAny((_name: string, envelope: Envelope) => this.received.push(envelope));
    this.socket.connect();
  }

  payloads<E extends EventType>(type: E): PayloadOf<E>[] {
    return this.received
      .filter(({ event_type }) => event_type === type)
      .map(({ payload }) => payload as PayloadOf<E>);
  }

  get starts(): number | undefined {
    return this.payloads("STREAM_READY").at(-1)?.offset;
  }

  get dropped(): [from: number, to: number, reason: string][] {
    return this.payloads("BYTES_DROPPED").map(({ from, to, reason }) => [from, to, reason]);
  }

  get bytes(): Buffer {
    return Buffer.concat(this.payloads("TERMINAL_OUTPUT").map(({ data }) => data));
  }

  /**
   * Walks through what came: from `from` on each byte is there once, in order, or announced; compares with the stream.
   * @returns the offset up to which that is so; throws where it is not
   */
  account(stream: Buffer, from = this.starts ?? 0): number {
    let next = from;
    const gaps: [number, number][] = [];
    for (const { event_type, payload } of this.received) {
      if (event_type === "BYTES_DROPPED") {
        const gap = payload as PayloadOf<"BYTES_DROPPED">;
        gaps.push([gap.from, gap.to]);
      }
      if (event_type !== "TERMINAL_OUTPUT") continue;
      const { offset, data } = payload as PayloadOf<"TERMINAL_OUTPUT">;
      for (
        let gap = gaps.findIndex(([at]) => at === next);
        gap >= 0;
        gap = gaps.findIndex(([at]) => at === next)
      )
        next = gaps.splice(gap, 1)[0]?.[1] ?? next;
      if (offset !== next)
        throw new Error(`${this.task}: at ${next} came ${offset}; ${JSON.stringify(this.dropped)}`);
      if (!stream.subarray(offset, offset + data.byteLength).equals(Buffer.from(data)))
        throw new Error(`${this.task}: other bytes at ${offset}`);
      next += data.byteLength;
    }
    for (const [gapFrom, to] of gaps) if (gapFrom === next) next = to;
    return next;
  }

  async sees(what: string, condition: (viewer: this) => unknown): Promise<this> {
    try {
      await until(what, () => Boolean(condition(this)));
    } catch (error) {
      const last = this.received.slice(-6).map(({ event_type, payload }) => {
        const { data, ...rest } = payload as { data?: Uint8Array };
        return `${event_type} ${JSON.stringify(rest)} ${data?.byteLength ?? ""}`;
      });
      throw new Error(
        `${(error as Error).message}\n  ${this.bytes.length} bytes; at last:\n  ${last.join("\n  ")}`,
      );
    }
    return this;
  }

  ready(): Promise<this> {
    return this.sees("STREAM_READY", () => this.starts !== undefined);
  }

  has(upTo: number, stream: Buffer): Promise<this> {
    return this.sees(`everything up to ${upTo}`, () => this.account(stream) >= upTo);
  }

  ask(event: "PAUSE_STREAM" | "RESUME_STREAM", ...args: unknown[]): Promise<{ ok: boolean }> {
    return this.socket.timeout(10_000).emitWithAck(event, ...args);
  }
}

/** How many listen to a channel of this task's output. */
export async function listening(redis: Redis, keys: RedisKeys, task: string): Promise<number> {
  const [, count] = await redis.pubsub("NUMSUB", keys.terminalOutput(task));
  return Number(count);
}
