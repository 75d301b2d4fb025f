import type { Socket } from "node:net";
import { AGENTS_NAMESPACE, terminalNamespace } from "@agentwire/shared";
import { expect } from "chai";
import { openBare } from "../harness/bare-viewer.js";
import { sharedCluster, startCluster } from "../harness/cluster.js";
import { liveBytes, MEASURED } from "../harness/memory.js";
import { needs } from "../harness/needs.js";
import { sharedPostgres } from "../harness/postgres.js";
import {
  hashOf,
  listening,
  openConnection,
  playWorker,
  someBytes,
  TerminalWatcher,
} from "../harness/terminal.js";
import { until } from "../harness/wait.js";

describe("terminals", () => {
  const cluster = sharedCluster({ nodes: 3 });
  const watch = (
    task: string,
    { on = 1, ...options }: ConstructorParameters<typeof TerminalWatcher>[2] & { on?: number } = {},
  ) => new TerminalWatcher(cluster().node(on).url, task, options);
  const untilNobodyListens = (task: string) =>
    until("nobody listens", async () => (await listening(cluster().client(), cluster().keys, task)) === 0);

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

describe("terminals, on a cluster of their own", () => {
  it("[D29] 10,000 come and go, refused, let in, or gone meanwhile: nothing is left of them", async () => {
    const cluster = await startCluster({ nodes: 1, settings: { ...MEASURED, LOG_LEVEL: "info" } });
    const node = cluster.node(1);
    for (let n = 0; n < 5; n++) await playWorker(cluster, `churn-${n}`);
    await playWorker(cluster, "churn-foreign", { project: "p2" });
    const openTerminals = async () => {
      const text = await (await fetch(`${node.adminUrl}/metrics`)).text();
      return Number(/^agentwire_terminals (\d+)$/m.exec(text)?.[1]);
    };
    const outcomes = { ready: 0, refused: 0, gone: 0 };
    const churn = async (times: number, n: number): Promise<void> => {
      let one = await openBare(node.url, { user: `u${n}` });
      for (let time = 0; time < times; time++) {
        const which = (time + n) % 10;
        const task = which === 8 ? "churn-foreign" : which === 9 ? `churn-no-${time}` : `churn-${which % 5}`;
        const nsp = terminalNamespace(task);
        const began = performance.now();
        one.texts.length = 0;
        one.ws.send(`40${nsp},`);
        if (which === 7 && time % 20 === 0) {
          outcomes.gone++;
          one.ws.terminate();
          one = await openBare(node.url, { user: `u${n}` });
          continue;
        }
        const answer = await until(`an answer about ${task}`, () =>
          one.texts.find((text) => text.startsWith(`44${nsp}`) || text.includes("STREAM_READY")),
        );
        if (answer.startsWith("44")) outcomes.refused++;
        else {
          outcomes.ready++;
          one.ws.send(`41${nsp},`);
        }
        // A connection has 25 CONNECTs a second.
        await new Promise((resolve) => setTimeout(resolve, Math.max(5, 42 - (performance.now() - began))));
      }
      one.ws.terminate();
    };
    const round = (each: number) => Promise.all(Array.from({ length: 50 }, (_, n) => churn(each, n)));
    const gone = () => until("no terminal is open", async () => (await openTerminals()) === 0);
    await round(40);
    await gone();
    const before = await liveBytes(node);
    await round(160);
    await gone();
    expect(outcomes.ready).to.be.above(7000);
    expect(outcomes.refused).to.be.above(1500);
    expect(outcomes.gone).to.be.above(20);
    await until("nothing is listened to", async () => {
      const channels = (await cluster.client().pubsub("CHANNELS", "*terminal:*")) as string[];
      return channels.every((name) => name.includes(":control:"));
    });
    expect((await liveBytes(node)) - before).to.be.below(3_000_000);
    expect(node.stderr).to.equal("");
  });

  it("[D20][D29] output is not held up by statuses that are over the limit, on the same connection", async () => {
    const settings = { WS_RATE_LIMIT_PER_CONNECTION: "20", WS_QUEUE_TTL: "60" };
    const cluster = await startCluster({ nodes: 1, settings });
    const worker = await playWorker(cluster, "beside");
    const manager = openConnection(cluster.node(1).url);
    const agents = manager.socket(AGENTS_NAMESPACE);
    let statuses = 0;
    agents.on("AGENT_STATUS_CHANGED", () => statuses++);
    agents.connect();
    const one = await new TerminalWatcher("", "beside", { manager }).ready();
    const emitter = cluster.worker();
    const message = "x".repeat(1000);
    for (let n = 0; n < 90; n++)
      await emitter.agentStatus({ agent_id: "a1", project_id: "p1", new_status: "working", message });
    await worker.stream(someBytes(2_000_000));
    await one.has(2_000_000, worker.written);
    expect(statuses, "they still wait").to.be.below(80);
    expect(one.dropped).to.deep.equal([]);
    expect(hashOf(one.bytes)).to.equal(hashOf(worker.written));
  });

  it("[D29] what is written while Redis cannot be heard comes afterwards, from the worker", async () => {
    const cluster = await startCluster({ nodes: 1 });
    const worker = await playWorker(cluster, "blip");
    const one = await new TerminalWatcher(cluster.node(1).url, "blip").ready();
    await worker.write(someBytes(1000));
    await one.has(1000, worker.written);
    await worker.write(someBytes(100_000, 2), { silently: true });
    // Nothing more is written: only that it listens again tells the node.
    await cluster.client().call("CLIENT", "KILL", "TYPE", "pubsub");
    await one.has(101_000, worker.written);
    expect(one.dropped).to.deep.equal([]);
    expect(hashOf(one.bytes)).to.equal(hashOf(worker.written));
  });

  it("[D29] a Redis that comes back empty ends no terminal whose worker lives", async () => {
    const cluster = await startCluster({ nodes: 1 });
    const worker = await playWorker(cluster, "empty");
    const one = await new TerminalWatcher(cluster.node(1).url, "empty").ready();
    await worker.write(someBytes(1000));
    await one.has(1000, worker.written);
    await cluster.redis.restart({ empty: true });
    await until(
      "the node listens again",
      async () => (await listening(cluster.client(), cluster.keys, "empty")) === 1,
    );
    await until(
      "it is watched",
      async () => (await cluster.client().exists(cluster.keys.terminalWatched("empty"))) === 1,
    );
    const again = await playWorker(cluster, "empty");
    await again.write(someBytes(1000), { silently: true });
    await again.write(someBytes(1000, 2));
    await one.has(2000, again.written);
    expect(one.payloads("STREAM_END")).to.deep.equal([]);
  });
});

describe("terminals, and rights that change", () => {
  needs("POSTGRES");
  const postgres = sharedPostgres();

  it("[D25][D29] a right that is lost closes the terminal within a second, and says why; all else goes on", async () => {
    await postgres().members({ anna: ["p1", "p2"], ben: ["p2"] });
    const cluster = await startCluster({ nodes: 1, settings: { DATABASE_URL: postgres().url } });
    const [lost, kept] = [
      await playWorker(cluster, "lost", { project: "p2" }),
      await playWorker(cluster, "kept", { project: "p1" }),
    ];
    const { url } = cluster.node(1);
    const manager = openConnection(url, { user: "anna" });
    const [hers, also] = [
      await new TerminalWatcher(url, "lost", { manager }).ready(),
      await new TerminalWatcher(url, "kept", { manager }).ready(),
    ];
    const his = await new TerminalWatcher(url, "lost", { user: "ben" }).ready();
    await lost.write(someBytes(10_000));
    await hers.has(10_000, lost.written);
    await hers.ask("PAUSE_STREAM");
    await lost.write(someBytes(10_000, 2));
    await postgres().members({ anna: ["p1"], ben: ["p2"] });
    await cluster.client().publish(cluster.keys.accessChanged, JSON.stringify({ user_id: "anna" }));
    await until("it is closed", () => hers.reasons.length > 0, 5000);
    expect(hers.reasons).to.deep.equal(["io server disconnect"]);
    expect(hers.payloads("ACCESS_REVOKED")).to.deep.equal([{ project_ids: ["p2"] }]);
    expect(hers.bytes.length).to.equal(10_000);
    await Promise.all([lost.write(someBytes(10, 3)), kept.write(someBytes(10))]);
    await his.has(20_010, lost.written);
    await also.has(10, kept.written);
    expect(also.payloads("ACCESS_REVOKED")).to.have.length(1);
    hers.socket.connect();
    await hers.sees("a refusal", () => hers.errors.length > 0);
    expect((hers.errors[0]?.data as { code?: string } | undefined)?.code).to.equal("TASK_NOT_FOUND");
  });
});
