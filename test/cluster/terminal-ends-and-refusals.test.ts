import { terminalNamespace } from "@agentwire/shared";
import { expect } from "chai";
import { openBare } from "../harness/bare-viewer.js";
import { openConnection, playWorker, someBytes } from "../harness/terminal.js";
import { terminalCluster } from "../harness/terminal-cluster.js";
import { until } from "../harness/wait.js";

describe("terminals", () => {
  const { cluster, watch, untilNobodyListens } = terminalCluster();

  it("[D29] a terminal ends after its last byte; the connection stays, and so does another terminal", async () => {
    const [first, second] = [await playWorker(cluster(), "end-1"), await playWorker(cluster(), "end-2")];
    const manager = openConnection(cluster().node(1).url);
    const [one, two] = [watch("end-1", { manager }), watch("end-2", { manager })];
    await Promise.all([one.ready(), two.ready()]);
    await Promise.all([first.write(someBytes(200_000)), first.end({ exit_code: 1, reason: "failed" })]);
    await one.sees("the end", () => one.reasons.length > 0);
    expect(one.account(first.written)).to.equal(200_000);
    expect(one.received.at(-1)?.payload).to.deep.equal({ task_id: "end-1", exit_code: 1, reason: "failed" });
    await second.write(someBytes(1000));
    await two.has(1000, second.written);
    const late = watch("end-1", { manager: openConnection(cluster().node(2).url), from: 150_000 });
    await late.sees("the end", () => late.reasons.length > 0);
    expect(late.received.map(({ event_type }) => event_type)).to.deep.equal([
      "STREAM_READY",
      "BYTES_DROPPED",
      "STREAM_END",
    ]);
    expect([late.starts, late.dropped]).to.deep.equal([200_000, [[150_000, 200_000, "trimmed"]]]);
    expect(late.payloads("STREAM_END")).to.deep.equal([{ task_id: "end-1", exit_code: 1, reason: "failed" }]);
  });

  it("[D29] an end that no node heard is found, with what was written before it", async () => {
    const worker = await playWorker(cluster(), "quiet-end");
    const one = await watch("quiet-end").ready();
    await worker.write(someBytes(1000));
    await one.has(1000, worker.written);
    await worker.write(someBytes(1000, 2), { silently: true });
    await worker.end({ exit_code: 0 }, { silently: true });
    await one.sees("the end", () => one.reasons.length > 0);
    expect(one.bytes.equals(worker.written)).to.equal(true);
  });

  it("[D29] a worker that dies ends its terminal when its lease does", async () => {
    const worker = await playWorker(cluster(), "dying", { leaseMs: 3000 });
    const one = await watch("dying").ready();
    await worker.write(someBytes(1000));
    worker.answers = false;
    const began = performance.now();
    await one.sees("the end", () => one.reasons.length > 0);
    expect(performance.now() - began).to.be.within(1500, 4500);
    expect(one.payloads("STREAM_END")).to.deep.equal([{ task_id: "dying", reason: "worker_lost" }]);
    expect(one.account(worker.written)).to.equal(1000);
  });

  it("[D29] watched is said at once, and again; when the last one leaves nothing is listened to", async () => {
    const { client, keys } = cluster();
    const worker = await playWorker(cluster(), "watched");
    const [one, two] = [await watch("watched").ready(), await watch("watched").ready()];
    const watches = () => worker.asked.filter(({ type }) => type === "watch").length;
    expect(watches()).to.equal(1);
    expect(await client().pttl(keys.terminalWatched("watched"))).to.be.within(10_000, 15_000);
    await until("it is said again", () => watches() === 2);
    one.socket.disconnect();
    await worker.write(someBytes(10));
    await two.has(10, worker.written);
    two.socket.disconnect();
    await untilNobodyListens("watched");
    expect(await client().pubsub("CHANNELS", keys.terminalTail("*"))).to.deep.equal([]);
  });

  it("[D11][D29] somebody else's task and one that does not exist are refused, byte for byte the same", async () => {
    await playWorker(cluster(), "foreign-1", { project: "p2" });
    const one = await openBare(cluster().node(1).url, {});
    const answerTo = async (task: string) => {
      const before = one.texts.length;
      one.ws.send(`40${terminalNamespace(task)},`);
      const [answer = ""] = await until(
        "an answer",
        () => one.texts.length > before && one.texts.slice(before),
      );
      return answer.replace(task, "");
    };
    expect(await answerTo("foreign-1")).to.equal(await answerTo("unknown-1"));
    expect(one.texts.at(-1)).to.include('"code":"TASK_NOT_FOUND"');
    const two = watch("foreign-1", { projects: ["p2"] });
    await two.ready();
  });

  for (const [what, event, args, code] of [
    ["an event that there is not", "SUBSCRIBE", [], "UNKNOWN_EVENT"],
    ["arguments that are not wanted", "PAUSE_STREAM", [{}], "INVALID_EVENT"],
    ["the server's own event", "TERMINAL_OUTPUT", [{}], "UNKNOWN_EVENT"],
  ] as const)
    it(`[D13][D29] ${what}: the connection is closed, and told why`, async () => {
      await playWorker(cluster(), "bad-input");
      const one = await watch("bad-input").ready();
      one.socket.emit(event, ...args);
      await one.sees("it is closed", () => one.reasons.length > 0);
      expect(one.payloads("ERROR").map(({ code }) => code)).to.deep.equal([code]);
    });

  it("[D13][D29] a terminal that is no task's, an offset that is none, and the 21st are refused", async () => {
    const manager = openConnection(cluster().node(1).url);
    const codeOf = async (task: string, from?: unknown) => {
      const one = watch(task, { manager, from });
      await one.sees("a refusal", () => one.errors.length > 0);
      return (one.errors[0]?.data as { code?: string })?.code;
    };
    expect(await codeOf("no/task")).to.equal("NAMESPACE_UNKNOWN");
    expect(await codeOf("n-0", -1)).to.equal("BAD_REQUEST");
    expect(await codeOf("n-1", "1")).to.equal("BAD_REQUEST");
    const open = [];
    for (let n = 10; n < 32; n++) await playWorker(cluster(), `n-${n}`);
    for (let n = 10; n < 30; n++) open.push(await watch(`n-${n}`, { manager }).ready());
    expect(await codeOf("n-30")).to.equal("RATE_LIMITED");
    open[0]?.socket.disconnect();
    await untilNobodyListens("n-10");
    await watch("n-31", { manager }).ready();
  });
});
