import { spawn } from "node:child_process";
import { createHash, randomBytes } from "node:crypto";
import { once } from "node:events";
import type { Socket } from "node:net";
import { setTimeout as sleep } from "node:timers/promises";
import { createEmitter, type EmitterOptions, type Terminal } from "@agentwire/emitter";
import { AgentwireError, limits } from "@agentwire/shared";
import {
  decodeTerminal,
  redisKeys,
  type ScriptRunner,
  type TailEnd,
  type TerminalEnd,
  type TerminalMessage,
  type TerminalOutput,
} from "@agentwire/shared/redis";
import { expect } from "chai";
import fc from "fast-check";
import { Redis } from "ioredis";
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

  it("[D29] nobody watches: nothing is published, nothing of it is stored, and nobody waits", async () => {
    const { node, terminal } = await unwatched();
    const before = await commands();
    const started = Date.now();
    for (let n = 0; n < 320; n++) await write(terminal, n % 2 ? "stdout" : "stderr", randomBytes(64 * KB));
    expect(Date.now() - started).to.be.below(10_000);
    await sleep(100);
    await node.settled();
    expect(node.heard).to.deep.equal([]);
    const after = await commands();
    expect(after.publish).to.equal(before.publish);
    // A renewal may have come.
    expect(after.multi - before.multi).to.be.at.most(2);
    expect((await redis.keys("*")).sort()).to.deep.equal(
      [keys.task("unwatched"), keys.terminal("unwatched")].sort(),
    );
    expect(await redis.strlen(keys.task("unwatched"))).to.be.below(100);
  });

  it("[D29] on the first watch comes what is kept, then all that is written", async () => {
    const { node, terminal } = await unwatched();
    const early = randomBytes(300 * KB);
    await write(terminal, "stdout", early);
    await node.settled();
    expect(node.heard).to.deep.equal([]);
    await node.watch();
    await until("what is kept", () => last(node.outputs()) === early.length);
    const late = randomBytes(100 * KB);
    await write(terminal, "stderr", late);
    await terminal.end(7);
    await until("the end", () => node.ended());
    const start = early.length - limits.terminalTailBytes;
    expect(node.outputs()[0]?.offset).to.equal(start);
    expect(sha(bytesOf(node.heard))).to.equal(sha(Buffer.concat([early.subarray(start), late])));
    expect(node.ended()).to.deep.equal({ end: true, offset: early.length + late.length, exit_code: 7 });
  });

  it("[D29] a task that is shorter than the way to Redis is seen by who was there before", async () => {
    const node = await watchLike("short");
    await node.announce();
    const terminal = emitterOf()
      .task({ ...subject, task_id: "short" })
      .terminal();
    const written = randomBytes(600 * KB);
    terminal.stdout.write(written);
    await terminal.end(0);
    await until("the end", () => node.ended());
    expect(sha(bytesOf(node.heard))).to.equal(sha(written));
  });

  for (const queues of [true, false]) {
    it(`[D29] with a client of the caller that queues ${queues ? "commands" : "nothing"}`, async () => {
      const client = new Redis(server.url, {
        disconnectTimeout: 100,
        enableOfflineQueue: queues,
        maxRetriesPerRequest: queues ? 20 : 0,
      });
      onTeardown(() => client.disconnect());
      const { node, terminal } = await watched({ redis: client });
      const written = randomBytes(300 * KB);
      await write(terminal, "stderr", written);
      await terminal.end(0);
      await until("the end", () => node.ended());
      expect(bytesOf(node.heard, "stderr").equals(written)).to.equal(true);
      expect(client.status).to.equal("ready");
    });
  }

  it("[D13] a client that only runs scripts has no terminal", () => {
    const { evalsha, eval: run } = redis;
    const emitter = emitterOf({
      redis: { evalsha: evalsha.bind(redis), eval: run.bind(redis) } as ScriptRunner,
    });
    expect(() => emitter.task(subject).terminal())
      .to.throw(AgentwireError)
      .include({ code: "BAD_REQUEST" });
  });

  it("[D29] a tail says again what was published, from the offset asked for or the oldest that is kept", async () => {
    const { node, terminal } = await watched();
    const written = randomBytes(400 * KB);
    await write(terminal, "stdout", written);
    await until("all", () => last(node.outputs()) === written.length);
    for (const from of [undefined, 0, 10, 300 * KB, 300 * KB + 1, written.length, written.length + 99]) {
      const { outputs, last: end } = await node.tail(from);
      const start = Math.max(from ?? 0, written.length - limits.terminalTailBytes);
      expect(end).to.deep.equal({ tail_end: true, offset: written.length });
      if (start < written.length) expect(outputs[0]?.offset).to.equal(start);
      expect(bytesOf(outputs).equals(written.subarray(start)), `from ${from}`).to.equal(true);
      for (const { data } of outputs) expect(data.length).to.be.within(1, limits.chunkBytes);
    }
  });

  it("[D29] a tail without a watch has all, and a watch afterwards goes on behind it", async () => {
    const { node, terminal } = await unwatched();
    await write(terminal, "stdout", "one");
    const { outputs, end } = await node.tail();
    expect(bytesOf(outputs).toString()).to.equal("one");
    expect(end.offset).to.equal(3);
    await node.watch();
    await write(terminal, "stdout", "two");
    await until("what came then", () => node.outputs().length > 0);
    expect(node.outputs()[0]).to.deep.include({ offset: 3, data: Buffer.from("two") });
  });

  it("[D29] tail and live together have no hole, whenever it is asked for", async () => {
    const { node, terminal } = await watched();
    const hash = createHash("sha256");
    let writing = true;
    const producer = (async () => {
      for (let n = 0; n < 150; n++) {
        const data = randomBytes(1 + ((n * 997) % (20 * KB)));
        hash.update(data);
        await write(terminal, n % 3 ? "stdout" : "stderr", data);
        await sleep(n % 4);
      }
      writing = false;
    })();
    const viewers: { seen: TerminalMessage[]; from: number }[] = [];
    while (writing) {
      // As a viewer that comes now: live from here on, and the tail before it.
      const from = node.heard.length;
      const { outputs, end } = await node.tail();
      const seen = [...outputs];
      viewers.push({ seen, from });
      expect(last(outputs)).to.equal(outputs.length > 0 ? end.offset : 0);
    }
    await producer;
    await terminal.end();
    const end = await until("the end", () => node.ended());
    expect(viewers.length).to.be.above(5);
    const whole = bytesOf(node.heard);
    expect(whole.length).to.equal(end.offset);
    expect(sha(whole)).to.equal(hash.digest("hex"));
    for (const { seen, from } of viewers) {
      const all = [...seen, ...node.heard.slice(from)];
      const bytes = bytesOf(all);
      expect(bytes.equals(whole.subarray(end.offset - bytes.length))).to.equal(true);
      expect(end.offset - bytes.length).to.equal(seen.filter(isOutput)[0]?.offset ?? 0);
    }
  });

  it("[D29] over the rate nothing is lost: who writes waits, down to a child process", async () => {
    const rate = 200 * KB;
    const { node, terminal } = await watched({ terminalBytesPerSecond: rate });
    const child = spawn("yes", [], { stdio: ["ignore", "pipe", "inherit"] });
    onTeardown(() => void child.kill("SIGKILL"));
    const started = Date.now();
    child.stdout.pipe(terminal.stdout, { end: false });
    await until("two seconds' worth", () => last(node.outputs()) > 2 * rate);
    const seconds = (Date.now() - started) / 1000;
    expect(last(node.outputs()) / seconds).to.be.below(rate * 1.15);
    expect(seconds).to.be.above(1.7);
    expect((child.stdout as Socket).bytesRead).to.be.below(2 * rate + 350 * KB);
    child.kill("SIGKILL");
    await once(child, "close");
    await terminal.end(137);
    const end = await until("the end", () => node.ended());
    const bytes = bytesOf(node.heard);
    expect(bytes.length).to.equal(end.offset);
    expect(bytes.equals(Buffer.alloc(bytes.length, "y\n"))).to.equal(true);
  });

  it("[D29] what both streams wrote while they wait for the rate keeps its order", async () => {
    const { node, terminal } = await watched({ terminalBytesPerSecond: 400 * KB });
    const said: { stream: "stdout" | "stderr"; data: Uint8Array }[] = [];
    for (let n = 0; n < 40; n++) {
      const stream = n % 3 ? ("stdout" as const) : ("stderr" as const);
      const data = randomBytes(10 * KB);
      said.push({ stream, data });
      terminal[stream].write(data);
    }
    terminal.stderr.end("bye");
    said.push({ stream: "stderr", data: Buffer.from("bye") });
    await terminal.end();
    await until("the end", () => node.ended());
    expect(sha(labelled(node.outputs()))).to.equal(sha(labelled(said)));
  });

  it("[D29] one stream that is corked, ended or destroyed does not hold up the other", async () => {
    const { node, terminal } = await watched();
    terminal.stdout.cork();
    terminal.stdout.write("later");
    await write(terminal, "stderr", "first ");
    await until("the other", () => bytesOf(node.heard).toString() === "first ");
    terminal.stdout.uncork();
    await until("it too", () => bytesOf(node.heard).toString() === "first later");
    terminal.stdout.end();
    await write(terminal, "stderr", " on");
    await until("the other goes on", () => bytesOf(node.heard).toString() === "first later on");
    terminal.stderr.destroy();
    await terminal.end(1);
    expect(await until("the end", () => node.ended())).to.include({ exit_code: 1, offset: 14 });
  });

  it("[D29] nobody says for 15 s that somebody watches: it is quiet again", async () => {
    const { node, terminal, task_id } = await watched();
    await write(terminal, "stdout", "1");
    await until("it", () => node.outputs().length === 1);
    await redis.del(keys.terminalWatched(task_id));
    await sleep(limits.terminalLeaseMs + 300);
    await write(terminal, "stdout", "2");
    await sleep(100);
    await node.settled();
    expect(node.outputs()).to.have.length(1);
    await node.watch();
    await until("the rest", () => bytesOf(node.heard).toString() === "12");
  });

  it("[D29] whose it is stands in Redis, for 15 s, and is renewed", async () => {
    const emitter = emitterOf();
    await redis.hset(keys.terminal("task-1"), { ended: "1", offset: "5", exit_code: "1" });
    const terminal = emitter.task({ ...subject, attempt: 3 }).terminal();
    const record = await until("the record", async () => {
      const all = await redis.hgetall(keys.terminal("task-1"));
      return all.project_id !== undefined && all;
    });
    expect(record).to.deep.equal({ project_id: "project-1", agent_id: "agent-1", attempt: "3" });
    expect(await redis.get(keys.task("task-1"))).to.equal("project-1");
    expect(await redis.pttl(keys.task("task-1"))).to.be.within(
      limits.agentRetentionMs - 60_000,
      limits.agentRetentionMs,
    );
    expect(await redis.pttl(keys.terminal("task-1"))).to.be.within(14_000, limits.terminalLeaseMs);
    await redis.pexpire(keys.terminal("task-1"), 8000);
    await until("it is renewed", async () => (await redis.pttl(keys.terminal("task-1"))) > 14_000);
    expect(() => emitter.task(subject).terminal())
      .to.throw(AgentwireError)
      .include({ code: "BAD_REQUEST" });

    terminal.stdout.write("12345");
    await terminal.end(-2);
    expect(await redis.hgetall(keys.terminal("task-1"))).to.deep.equal({
      ...{ project_id: "project-1", agent_id: "agent-1", attempt: "3" },
      ...{ ended: "1", offset: "5", exit_code: "-2" },
    });
    expect(await redis.pttl(keys.terminal("task-1"))).to.be.within(
      limits.terminalEndKeptMs - 5000,
      limits.terminalEndKeptMs,
    );
    await emitter.task(subject).terminal().end();
    expect(await redis.hgetall(keys.terminal("task-1"))).to.not.have.property("exit_code");
  });

  it("[D29] after a restart of Redis it goes on: no hole, the lease is there, it hears", async () => {
    const { node, terminal, task_id } = await watched();
    await write(terminal, "stdout", "before ");
    await until("it", () => node.outputs().length > 0);
    await server.restart();
    await write(terminal, "stdout", "meanwhile ");
    await listens(task_id);
    await until("the lease", async () => (await redis.exists(keys.terminal(task_id))) > 0);
    // The node's connection was lost too: it asks for what it missed.
    const { outputs } = await node.tail(node.outputs().length > 1 ? 0 : 7);
    await node.watch();
    await until("what was written meanwhile", () => {
      const seen = [...node.outputs(), ...outputs];
      return bytesOf(seen).toString() === "before meanwhile ";
    });
    await terminal.end(0);
    await until("the end", () => node.ended());
  });

  for (const way of ["is away", "hangs"] as const) {
    it(`[D29] while Redis ${way} nobody is held up, and afterwards only what is not kept is missing`, async () => {
      const line = await openLine();
      const { node, terminal } = await watched({ redis: line.url, terminalBytesPerSecond: 0 });
      await write(terminal, "stdout", "before ");
      await until("it", () => node.outputs().length > 0);
      if (way === "hangs") server.pause();
      else line.down();
      onTeardown(() => void server.resume());
      const written = randomBytes(2 * KB * KB);
      const started = Date.now();
      for (let at = 0; at < written.length; at += 32 * KB) {
        await write(terminal, "stdout", written.subarray(at, at + 32 * KB));
      }
      expect(Date.now() - started).to.be.below(4000);
      if (way === "hangs") server.resume();
      else line.up();
      const all = Buffer.concat([Buffer.from("before "), written]);
      await until("the last byte", () => last(node.outputs()) === all.length);
      await terminal.end(0);
      await until("the end", () => node.ended());
      const kept = all.length - limits.terminalTailBytes;
      for (const { offset, data } of node.outputs()) {
        expect(all.subarray(offset, offset + data.length).equals(data)).to.equal(true);
      }
      const late = node.outputs().filter(({ offset }) => offset >= kept);
      expect(bytesOf(late).equals(all.subarray(kept))).to.equal(true);
    });
  }

  it("[D29] without Redis its end takes a second", async () => {
    const line = await openLine();
    const { node, terminal } = await watched({ redis: line.url });
    await write(terminal, "stdout", "1");
    await until("it", () => node.outputs().length > 0);
    line.down();
    const started = Date.now();
    terminal.stdout.write("2");
    await terminal.end(0);
    expect(Date.now() - started).to.be.within(500, 2500);
  });

  it("[D29] a closed emitter has published what was written, and says nothing about an end", async () => {
    const { node, terminal, emitter, task_id } = await watched();
    terminal.stdout.write("the last");
    await emitter.close();
    await node.settled();
    expect(bytesOf(node.heard).toString()).to.equal("the last");
    expect(node.ended()).to.equal(undefined);
    expect(await redis.hgetall(keys.terminal(task_id))).to.not.have.property("ended");
    expect(await redis.pttl(keys.terminal(task_id))).to.be.within(1, limits.terminalLeaseMs);
    for (let n = 0; n < 20; n++) await write(terminal, "stdout", randomBytes(64 * KB));
    for (const call of [() => terminal.end(0), async () => emitter.task(subject).terminal()]) {
      const error = await call().then(
        () => undefined,
        (thrown) => thrown,
      );
      expect(error).to.be.instanceOf(AgentwireError).and.include({ code: "UNAVAILABLE" });
    }
  });

  it("[D29] a closed emitter does not wait for a child that writes for ever", async () => {
    const { terminal, emitter, node } = await watched({ terminalBytesPerSecond: 100 * KB });
    const child = spawn("yes", [], { stdio: ["ignore", "pipe", "inherit"] });
    onTeardown(() => void child.kill("SIGKILL"));
    child.stdout.pipe(terminal.stdout);
    await until("it writes", () => node.outputs().length > 20);
    const started = Date.now();
    await emitter.close();
    expect(Date.now() - started).to.be.below(3000);
    const before = (child.stdout as Socket).bytesRead;
    await until("it is not held up", () => (child.stdout as Socket).bytesRead > before + 1024 * KB);
  });

  it("[D29] what is no control is ignored", async () => {
    const { node, terminal } = await unwatched();
    for (const text of [
      "",
      "{",
      "null",
      "[]",
      '{"type":"x"}',
      '{"type":"tail"}',
      '{"type":"tail","request":"a b"}',
    ]) {
      await redis.publish(keys.terminalControl("unwatched"), text);
    }
    await write(terminal, "stdout", "1");
    expect(bytesOf((await node.tail()).outputs).toString()).to.equal("1");
    expect(node.heard).to.deep.equal([]);
  });

  it("[D29] many terminals of one emitter hear on one connection, each its own", async () => {
    const before = await connections();
    const emitter = emitterOf();
    const nodes = await Promise.all(Array.from({ length: 20 }, (_, n) => watchLike(`many-${n}`)));
    const terminals = nodes.map((_, n) => emitter.task({ ...subject, task_id: `many-${n}` }).terminal());
    for (const n of nodes.keys()) await listens(`many-${n}`);
    expect((await connections()) - before).to.equal(nodes.length + 2);
    await nodes[3]?.watch();
    for (const [n, terminal] of terminals.entries()) terminal.stdout.write(`I am ${n}`);
    await until("the one", () => bytesOf(nodes[3]?.heard ?? []).toString() === "I am 3");
    expect(nodes.filter(({ heard }) => heard.length > 0)).to.have.length(1);
    await terminals[4]?.end();
    await until("it does not hear any more", async () => {
      const [, count] = await redis.pubsub("NUMSUB", keys.terminalControl("many-4"));
      return Number(count) === 0;
    });
  });

  for (const wrong of [-1, 1.5, "much", Number.NaN]) {
    it(`[D18] terminalBytesPerSecond ${wrong} is refused`, () => {
      expect(() => createEmitter({ redis: server.url, terminalBytesPerSecond: wrong as number }))
        .to.throw(AgentwireError, "WS_TERMINAL_BYTES_PER_SECOND")
        .include({ code: "BAD_REQUEST" });
    });
  }

  it("[D13] an exit code that is no whole number is refused, and the terminal stays open", async () => {
    const { terminal } = await watched();
    const error = await terminal.end(1.5).catch((thrown) => thrown);
    expect(error).to.be.instanceOf(AgentwireError).and.include({ code: "BAD_REQUEST" });
    await terminal.end(1);
  });

  /** The line from the emitter to Redis, which can be down while the nodes' is not. */
  async function openLine() {
    let alive = true;
    const port = server.port;
    const front = await openFront(
      [
        {
          port,
          get alive() {
            return alive;
          },
        },
      ],
      1,
    );
    onTeardown(() => front.close());
    return {
      url: front.url.replace("http:", "redis:"),
      down() {
        alive = false;
        front.cut();
      },
      up() {
        alive = true;
      },
    };
  }

  async function unwatched() {
    const node = await watchLike("unwatched");
    const emitter = emitterOf();
    const terminal = emitter.task({ ...subject, task_id: "unwatched" }).terminal();
    await listens("unwatched");
    await until("the record", () => redis.exists(keys.terminal("unwatched")));
    return { node, terminal, emitter };
  }
  const last = (outputs: TerminalOutput[]) => {
    const newest = outputs.at(-1);
    return newest ? newest.offset + newest.data.length : 0;
  };
  const connections = async () => Number(/connected_clients:(\d+)/.exec(await redis.info("clients"))?.[1]);
  async function commands() {
    const stats = await redis.info("commandstats");
    const calls = (name: string) => Number(new RegExp(`cmdstat_${name}:calls=(\\d+)`).exec(stats)?.[1] ?? 0);
    return { publish: calls("publish"), multi: calls("multi") };
  }
});
