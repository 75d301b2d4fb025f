import type { Socket } from "node:net";
import { expect } from "chai";
import { hashOf, playWorker, someBytes } from "../harness/terminal.js";
import { terminalCluster } from "../harness/terminal-cluster.js";
import { until } from "../harness/wait.js";

describe("terminals", () => {
  const { cluster, watch, untilNobodyListens } = terminalCluster();

  for (const viewers of [1, 10, 20])
    it(`[D29] ${viewers} viewers on three nodes, in both encodings, get each byte, in order`, async () => {
      const task = `many-${viewers}`;
      const worker = await playWorker(cluster(), task);
      const all = await Promise.all(
        Array.from({ length: viewers }, (_, n) =>
          watch(task, { on: 1 + (n % 3), encoding: n % 2 ? "messagepack" : "json", user: `u${n}` }).ready(),
        ),
      );
      const stream = someBytes(2_000_000, viewers);
      await worker.stream(stream);
      await worker.end({ exit_code: 3 });
      for (const one of all) {
        await one.sees("the end", () => one.reasons.length > 0);
        expect(hashOf(one.bytes)).to.equal(hashOf(stream));
        expect(one.account(stream)).to.equal(stream.length);
        expect(one.dropped).to.deep.equal([]);
        expect(one.received.at(-1)?.payload).to.deep.equal({ task_id: task, exit_code: 3 });
        expect(one.reasons).to.deep.equal(["io server disconnect"]);
      }
      await untilNobodyListens(task);
    });

  it("[D29] who comes late gets the tail and goes on live; who comes back gets what it has not; no byte twice", async () => {
    const worker = await playWorker(cluster(), "late");
    await worker.write(someBytes(500_000), { silently: true });
    worker.forgetBefore(200_000);
    const late = watch("late");
    const stream = worker.stream(someBytes(1_000_000, 2));
    await late.ready();
    const back = watch("late", { on: 2, from: 321_000 });
    const longGone = watch("late", { on: 3, from: 1000, encoding: "messagepack" });
    await stream;
    for (const one of [late, back, longGone]) await one.has(1_500_000, worker.written);
    expect([late.starts, late.dropped]).to.deep.equal([200_000, []]);
    expect([back.starts, back.dropped]).to.deep.equal([321_000, []]);
    expect(longGone.starts).to.equal(200_000);
    expect(longGone.dropped).to.deep.equal([[1000, 200_000, "trimmed"]]);
    for (const one of [late, back, longGone])
      expect(hashOf(one.bytes)).to.equal(hashOf(worker.written.subarray(one.starts)));
  });

  it("[D29] who comes back to a terminal that began anew gets it from its beginning", async () => {
    const worker = await playWorker(cluster(), "anew");
    await worker.write(someBytes(1000));
    const one = await watch("anew", { from: 5000 }).ready();
    await worker.write(someBytes(100, 2));
    await one.has(1100, worker.written);
    expect([one.starts, one.dropped]).to.deep.equal([0, []]);
  });

  it("[D29] where nobody answers it begins with the next byte, after two seconds", async () => {
    const worker = await playWorker(cluster(), "mute", { answers: false });
    await worker.write(someBytes(100), { silently: true });
    const one = watch("mute");
    await until("it is asked", () => worker.asked.some(({ type }) => type === "tail"));
    const began = performance.now();
    await worker.write(someBytes(50, 2));
    await one.has(150, worker.written);
    expect(performance.now() - began).to.be.within(1500, 4000);
    expect([one.starts, one.dropped]).to.deep.equal([100, []]);
  });

  it("[D29] what a node missed is asked for, or announced", async () => {
    const worker = await playWorker(cluster(), "holes");
    const one = await watch("holes").ready();
    await worker.write(someBytes(10_000));
    await worker.write(someBytes(10_000, 2), { silently: true });
    await worker.write(someBytes(10_000, 3));
    await one.has(30_000, worker.written);
    expect(one.dropped).to.deep.equal([]);
    worker.answers = false;
    await worker.write(someBytes(5000, 4), { silently: true });
    await worker.write(someBytes(5000, 5));
    await one.has(40_000, worker.written);
    expect(one.dropped).to.deep.equal([[30_000, 35_000, "missed"]]);
    await worker.write(someBytes(5000, 6), { silently: true });
    await worker.end();
    await one.sees("the end", () => one.reasons.length > 0);
    expect(one.dropped.at(-1)).to.deep.equal([40_000, 45_000, "missed"]);
    expect(one.account(worker.written)).to.equal(45_000);
  });

  it("[D29] while one pauses the others go on; afterwards it gets 1 MiB, and the range of what is older", async () => {
    const worker = await playWorker(cluster(), "pause");
    const [paused, other] = [await watch("pause").ready(), await watch("pause", { user: "b" }).ready()];
    await worker.write(someBytes(10_000));
    await paused.has(10_000, worker.written);
    expect(await paused.ask("PAUSE_STREAM")).to.deep.equal({ ok: true });
    await paused.sees("STREAM_PAUSED", () => paused.payloads("STREAM_PAUSED").length === 1);
    await worker.write(someBytes(300_000, 2));
    await other.has(310_000, worker.written);
    expect(paused.bytes.length).to.equal(10_000);
    expect(await paused.ask("RESUME_STREAM")).to.deep.equal({ ok: true });
    await paused.has(310_000, worker.written);
    expect(paused.dropped, "less than 1 MiB is all kept").to.deep.equal([]);
    await paused.ask("PAUSE_STREAM");
    await worker.stream(someBytes(2_000_000, 3));
    await worker.end({ exit_code: 0 });
    await other.sees("the end", () => other.reasons.length > 0);
    expect(paused.payloads("STREAM_END")).to.deep.equal([]);
    await paused.ask("RESUME_STREAM");
    await paused.sees("the end", () => paused.reasons.length > 0);
    const [[from, to, reason] = []] = paused.dropped;
    expect([from, reason, paused.dropped.length]).to.deep.equal([310_000, "paused", 1]);
    expect(2_310_000 - (to ?? 0)).to.be.within(1_048_576 - 4096, 1_048_576);
    for (const one of [paused, other]) expect(one.account(worker.written)).to.equal(2_310_000);
    expect(hashOf(other.bytes)).to.equal(hashOf(worker.written));
  });

  it("[D29] a viewer that reads slowly gets, or is told, each byte; the others get all, and nobody waits", async () => {
    const worker = await playWorker(cluster(), "slow");
    const [slow, other] = [await watch("slow").ready(), await watch("slow", { user: "b" }).ready()];
    const { _socket: socket } = (slow.manager.engine.transport as unknown as { ws: { _socket: Socket } }).ws;
    socket.pause();
    await worker.stream(someBytes(10_000_000), 3000);
    await other.has(10_000_000, worker.written);
    expect(hashOf(other.bytes)).to.equal(hashOf(worker.written));
    socket.resume();
    await slow.has(10_000_000, worker.written);
    await worker.write(Buffer.from("more"));
    await slow.has(10_000_004, worker.written);
    const lost = slow.dropped.reduce((sum, [from, to]) => sum + to - from, 0);
    expect(lost).to.be.above(0);
    expect(lost + slow.bytes.length).to.equal(10_000_004);
  });

  it("[D29] a worker without an emitter: counted from 0, the excess announced; over HTTP too", async () => {
    const { client, keys, post } = cluster();
    const redis = client();
    await redis.set(keys.task("raw"), "p1");
    const one = await watch("raw").ready();
    expect(one.starts).to.equal(0);
    const stream = someBytes(3_000_000);
    for (let at = 0; at < stream.length; at += 50_000) {
      const message = { stream: "stderr", data: stream.subarray(at, at + 50_000).toString("base64") };
      await redis.publish(keys.terminalOutput("raw"), JSON.stringify(message));
    }
    await one.has(3_000_000, stream);
    expect(one.dropped.length).to.be.within(1, 20);
    for (const [, , reason] of one.dropped) expect(reason).to.equal("rate_limit");
    expect(one.bytes.length).to.be.within(1_000_000, 2_500_000);

    const body = {
      event_type: "TERMINAL_OUTPUT",
      task_id: "http",
      agent_id: "a1",
      project_id: "p1",
      payload: { stream: "stdout", data: Buffer.from("héllo").toString("base64") },
    };
    expect((await post(body)).status).to.equal(202);
    const two = await watch("http", { on: 2 }).ready();
    expect((await post(body, { to: 3 })).status).to.equal(202);
    await two.sees("it", () => two.bytes.toString() === "héllo");
    expect((await post({ ...body, project_id: "p2" })).status).to.equal(400);
    expect((await post({ ...body, payload: { stream: "stdout", data: "%" } })).status).to.equal(400);
    expect((await post({ ...body, task_id: undefined })).status).to.equal(400);
  });

  it("[D13][D29] what is no output is passed over, and costs nothing", async () => {
    const { client, keys } = cluster();
    const worker = await playWorker(cluster(), "garbage");
    const one = await watch("garbage").ready();
    for (const text of [
      "",
      "{",
      "{}",
      "null",
      "\u00c1",
      '{"stream":"stdout","data":"%"}',
      "x".repeat(2_000_000),
    ])
      await client().publish(keys.terminalOutput("garbage"), text);
    await worker.write(someBytes(100));
    await one.has(100, worker.written);
    expect(one.dropped).to.deep.equal([]);
  });
});
