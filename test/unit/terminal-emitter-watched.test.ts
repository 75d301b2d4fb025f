import { createHash, randomBytes } from "node:crypto";
import { setTimeout as sleep } from "node:timers/promises";
import { limits } from "@agentwire/shared";
import type { TerminalMessage } from "@agentwire/shared/redis";
import { expect } from "chai";
import { subject } from "../harness/emitters.js";
import { bytesOf, endOf, isOutput, KB, publishedTerminals, write } from "../harness/published-terminal.js";
import { hashOf } from "../harness/terminal.js";
import { until } from "../harness/wait.js";

describe("a task's terminal, published", () => {
  const { redis, keys, emitterOf, watchLike, watched, unwatched } = publishedTerminals();

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
    expect((await redis().keys("*")).sort()).to.deep.equal(
      [keys.task("unwatched"), keys.terminal("unwatched")].sort(),
    );
    expect(await redis().strlen(keys.task("unwatched"))).to.be.below(100);
  });

  it("[D29] on the first watch comes what is kept, then all that is written", async () => {
    const { node, terminal } = await unwatched();
    const early = randomBytes(300 * KB);
    await write(terminal, "stdout", early);
    await node.settled();
    expect(node.heard).to.deep.equal([]);
    await node.watch();
    await until("what is kept", () => endOf(node.outputs()) === early.length);
    const late = randomBytes(100 * KB);
    await write(terminal, "stderr", late);
    await terminal.end(7);
    await until("the end", () => node.ended());
    const start = early.length - limits.terminalTailBytes;
    expect(node.outputs()[0]?.offset).to.equal(start);
    expect(hashOf(bytesOf(node.heard))).to.equal(hashOf(Buffer.concat([early.subarray(start), late])));
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
    expect(hashOf(bytesOf(node.heard))).to.equal(hashOf(written));
  });

  it("[D29] nobody says for 15 s that somebody watches: it is quiet again", async () => {
    const { node, terminal, task_id } = await watched();
    await write(terminal, "stdout", "1");
    await until("it", () => node.outputs().length === 1);
    await redis().del(keys.terminalWatched(task_id));
    await sleep(limits.terminalLeaseMs + 300);
    await write(terminal, "stdout", "2");
    await sleep(100);
    await node.settled();
    expect(node.outputs()).to.have.length(1);
    await node.watch();
    await until("the rest", () => bytesOf(node.heard).toString() === "12");
  });

  it("[D29] a tail says again what was published, from the offset asked for or the oldest that is kept", async () => {
    const { node, terminal } = await watched();
    const written = randomBytes(400 * KB);
    await write(terminal, "stdout", written);
    await until("all", () => endOf(node.outputs()) === written.length);
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
      expect(endOf(outputs)).to.equal(outputs.length > 0 ? end.offset : 0);
    }
    await producer;
    await terminal.end();
    const end = await until("the end", () => node.ended());
    expect(viewers.length).to.be.above(5);
    const whole = bytesOf(node.heard);
    expect(whole.length).to.equal(end.offset);
    expect(hashOf(whole)).to.equal(hash.digest("hex"));
    for (const { seen, from } of viewers) {
      const all = [...seen, ...node.heard.slice(from)];
      const bytes = bytesOf(all);
      expect(bytes.equals(whole.subarray(end.offset - bytes.length))).to.equal(true);
      expect(end.offset - bytes.length).to.equal(seen.filter(isOutput)[0]?.offset ?? 0);
    }
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
      await redis().publish(keys.terminalControl("unwatched"), text);
    }
    await write(terminal, "stdout", "1");
    expect(bytesOf((await node.tail()).outputs).toString()).to.equal("1");
    expect(node.heard).to.deep.equal([]);
  });

  async function commands() {
    const stats = await redis().info("commandstats");
    const calls = (name: string) => Number(new RegExp(`cmdstat_${name}:calls=(\\d+)`).exec(stats)?.[1] ?? 0);
    return { publish: calls("publish"), multi: calls("multi") };
  }
});
