import { AGENTS_NAMESPACE, terminalNamespace } from "@agentwire/shared";
import { expect } from "chai";
import { openBare } from "../harness/bare-viewer.js";
import { startCluster } from "../harness/cluster.js";
import { liveBytes, MEASURED } from "../harness/memory.js";
import {
  hashOf,
  listening,
  openConnection,
  playWorker,
  someBytes,
  TerminalWatcher,
} from "../harness/terminal.js";
import { until } from "../harness/wait.js";

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
