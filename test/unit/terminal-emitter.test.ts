import { spawn } from "node:child_process";
import { createHash, randomBytes } from "node:crypto";
import { once } from "node:events";
import { setTimeout as sleep } from "node:timers/promises";
import { createEmitter, type EmitterOptions, type Terminal } from "@agentwire/emitter";
import { AgentwireError, limits } from "@agentwire/shared";
import {
  decodeTerminal,
  redisKeys,
  type TailEnd,
  type TerminalEnd,
  type TerminalMessage,
  type TerminalOutput,
} from "@agentwire/shared/redis";
import { expect } from "chai";
import fc from "fast-check";
import type { Redis } from "ioredis";
import { openFront } from "../harness/front.js";
import { needs } from "../harness/needs.js";
import { type RedisServer, startRedis } from "../harness/redis.js";
import { onTeardown } from "../harness/teardown.js";
import { until } from "../harness/wait.js";

const subject = { task_id: "task-1", agent_id: "agent-1", project_id: "project-1" };
const keys = redisKeys();
const KB = 1024;

const isOutput = (message: TerminalMessage): message is TerminalOutput => "data" in message;
const sha = (bytes: Uint8Array) => createHash("sha256").update(bytes).digest("hex");

/** The bytes of one stream, in their order, each once; throws where one is missing. */
function bytesOf(messages: TerminalMessage[], stream?: "stdout" | "stderr"): Buffer {
  const pieces: Uint8Array[] = [];
  const outputs = messages.filter(isOutput).sort((a, b) => a.offset - b.offset);
  let at = outputs[0]?.offset ?? 0;
  for (const { stream: its, offset, data } of outputs) {
    if (offset > at) throw new Error(`${at} to ${offset} is missing`);
    const fresh = data.subarray(Math.min(at - offset, data.length));
    if (stream === undefined || its === stream) pieces.push(fresh);
    at += fresh.length;
  }
  return Buffer.concat(pieces);
}

/** Each byte with its stream. */
function labelled(outputs: Pick<TerminalOutput, "stream" | "data">[]): Buffer {
  return Buffer.concat(
    outputs.map(({ stream, data }) => {
      const both = Buffer.alloc(2 * data.length, stream);
      for (const [n, byte] of data.entries()) both.set([byte, stream === "stdout" ? 1 : 2], 2 * n);
      return both;
    }),
  );
}

describe("a task's terminal, published", () => {
  needs("REDIS");
  let server: RedisServer;
  let redis: Redis;
  let task = 0;

  before(async () => {
    server = await startRedis();
    redis = server.client();
  });
  beforeEach(() => redis.flushall());
  after(() => server?.stop());

  function emitterOf(options: Partial<EmitterOptions> = {}) {
    const emitter = createEmitter({ redis: server.url, ...options });
    onTeardown(() => emitter.close());
    return emitter;
  }

  /** What a node does for its viewers. */
  async function watchLike(taskId: string) {
    const subscriber = server.client();
    onTeardown(() => subscriber.disconnect());
    const heard: TerminalMessage[] = [];
    const tails = new Map<string, TerminalMessage[]>();
    subscriber.on("messageBuffer", (channel: Buffer, bytes: Buffer) => {
      const message = decodeTerminal(bytes) as TerminalMessage;
      (tails.get(channel.toString()) ?? heard).push(message);
    });
    await subscriber.subscribe(keys.terminalOutput(taskId));
    const say = (control: object) => redis.publish(keys.terminalControl(taskId), JSON.stringify(control));
    let requests = 0;
    return {
      heard,
      outputs: () => heard.filter(isOutput),
      ended: () => heard.find((message): message is TerminalEnd => "end" in message),
      say,
      watch: () => say({ type: "watch" }),
      announce: () => redis.set(keys.terminalWatched(taskId), "1", "PX", limits.terminalLeaseMs),
      async tail(from?: number) {
        const request = `request-${++requests}`;
        const channel = keys.terminalTail(request);
        const messages: TerminalMessage[] = [];
        tails.set(channel, messages);
        await subscriber.subscribe(channel);
        await say({ type: "tail", request, from });
        const end = await until("the end of the tail", () =>
          messages.find((message): message is TailEnd => "tail_end" in message),
        );
        await subscriber.unsubscribe(channel);
        return { outputs: messages.filter(isOutput), last: messages.at(-1), end };
      },
      /** Everything that was published before this has been heard after it. */
      async settled() {
        await redis.ping();
        await subscriber.ping();
      },
    };
  }
  const listens = (taskId: string) =>
    until("the terminal listens", async () => {
      const [, count] = (await redis.pubsub("NUMSUB", keys.terminalControl(taskId))) as [string, number];
      return Number(count) > 0;
    });

  /** A terminal of a task of its own that somebody watches. */
  async function watched(options: Partial<EmitterOptions> = {}) {
    const task_id = `watched-${++task}`;
    const node = await watchLike(task_id);
    await node.announce();
    const emitter = emitterOf(options);
    const terminal = emitter.task({ ...subject, task_id }).terminal();
    await listens(task_id);
    await node.watch();
    return { node, terminal, emitter, task_id };
  }
  async function write(terminal: Terminal, stream: "stdout" | "stderr", data: Uint8Array | string) {
    if (!terminal[stream].write(data)) await once(terminal[stream], "drain");
  }

  it("[D29] bytes arrive exactly as they were written: ANSI, NUL, invalid UTF-8, anything", async () => {
    const { node, terminal } = await watched();
    const written = Buffer.concat([
      Buffer.from("\u001b[31mred\u001b[0m\r\n\0ü"),
      Buffer.from([0xff, 0xfe, 0xc3, 0x28, 0x00, 0x7b]),
      randomBytes(100_000),
    ]);
    await write(terminal, "stdout", written);
    await terminal.end(0);
    await until("the end", () => node.ended());
    expect(sha(bytesOf(node.heard))).to.equal(sha(written));
    expect(node.ended()).to.deep.equal({ end: true, offset: written.length, exit_code: 0 });
  });

  it("[D29] however it is written: one order of both streams, offsets without a hole, chunks of 4096 at most", async () => {
    const writes = fc.array(
      fc.record({
        stream: fc.constantFrom("stdout" as const, "stderr" as const),
        data: fc.oneof(
          { weight: 5, arbitrary: fc.uint8Array({ maxLength: 20 }) },
          { weight: 1, arbitrary: fc.uint8Array({ minLength: 4000, maxLength: 100_000, size: "max" }) },
        ),
      }),
      { maxLength: 60 },
    );
    await fc.assert(
      fc.asyncProperty(writes, fc.boolean(), async (said, waits) => {
        const { node, terminal, emitter } = await watched();
        for (const { stream, data } of said) {
          if (waits) await write(terminal, stream, data);
          else terminal[stream].write(data);
        }
        await terminal.end();
        await until("the end", () => node.ended());
        const outputs = node.outputs();
        let at = 0;
        for (const { offset, data } of outputs) {
          expect(offset).to.equal(at);
          expect(data.length).to.be.within(1, limits.chunkBytes);
          at += data.length;
        }
        expect(node.ended()).to.deep.equal({ end: true, offset: at });
        expect(sha(labelled(outputs))).to.equal(sha(labelled(said)));
        await emitter.close();
      }),
      { numRuns: 25 },
    );
  });
});
