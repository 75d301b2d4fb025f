import { randomBytes } from "node:crypto";
import { AgentwireError, limits } from "@agentwire/shared";
import type { ScriptRunner } from "@agentwire/shared/redis";
import { expect } from "chai";
import { Redis } from "ioredis";
import { subject } from "../harness/emitters.js";
import { bytesOf, endOf, KB, publishedTerminals, write } from "../harness/published-terminal.js";
import { onTeardown } from "../harness/teardown.js";
import { until } from "../harness/wait.js";

describe("a task's terminal, published", () => {
  const { server, redis, keys, emitterOf, openLine, watchLike, listens, watched } = publishedTerminals();

  it("[D29] after a restart of Redis it goes on: no hole, the lease is there, it hears", async () => {
    const { node, terminal, task_id } = await watched();
    await write(terminal, "stdout", "before ");
    await until("it", () => node.outputs().length > 0);
    await server().restart();
    await write(terminal, "stdout", "meanwhile ");
    await listens(task_id);
    await until("the lease", async () => (await redis().exists(keys.terminal(task_id))) > 0);
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
      if (way === "hangs") server().pause();
      else line.down();
      onTeardown(() => void server().resume());
      const written = randomBytes(2 * KB * KB);
      const started = Date.now();
      for (let at = 0; at < written.length; at += 32 * KB) {
        await write(terminal, "stdout", written.subarray(at, at + 32 * KB));
      }
      expect(Date.now() - started).to.be.below(4000);
      if (way === "hangs") server().resume();
      else line.up();
      const all = Buffer.concat([Buffer.from("before "), written]);
      await until("the last byte", () => endOf(node.outputs()) === all.length);
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
      const [, count] = await redis().pubsub("NUMSUB", keys.terminalControl("many-4"));
      return Number(count) === 0;
    });
  });

  for (const queues of [true, false]) {
    it(`[D29] with a client of the caller that queues ${queues ? "commands" : "nothing"}`, async () => {
      const client = new Redis(server().url, {
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
    const client = redis();
    const { evalsha, eval: run } = client;
    const emitter = emitterOf({
      redis: { evalsha: evalsha.bind(client), eval: run.bind(client) } as ScriptRunner,
    });
    expect(() => emitter.task(subject).terminal())
      .to.throw(AgentwireError)
      .include({ code: "BAD_REQUEST" });
  });

  const connections = async () => Number(/connected_clients:(\d+)/.exec(await redis().info("clients"))?.[1]);
});
