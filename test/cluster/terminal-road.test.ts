import { spawn } from "node:child_process";
import { createHash, randomBytes } from "node:crypto";
import { once } from "node:events";
import { setTimeout as pause } from "node:timers/promises";
import { expect } from "chai";
import { sharedCluster, startCluster } from "../harness/cluster.js";
import { liveBytes, MEASURED, ownLiveBytes } from "../harness/memory.js";
import { onTeardown } from "../harness/teardown.js";
import { hashOf, listening, TerminalWatcher } from "../harness/terminal.js";
import { until } from "../harness/wait.js";

const MB = 1_000_000;
const subject = (task_id: string) => ({ task_id, agent_id: "a1", project_id: "p1" });

describe("a terminal, from the worker to the viewers", () => {
  const cluster = sharedCluster({ nodes: 3, settings: { WS_TERMINAL_BYTES_PER_SECOND: String(20 * MB) } });
  const watcher = (
    task: string,
    on: number,
    options: ConstructorParameters<typeof TerminalWatcher>[2] = {},
  ) => new TerminalWatcher(cluster().node(on).url, task, options);

  it("[D29] at 1 MB/s every byte reaches each of 12 viewers on 3 nodes, in JSON and MessagePack", async function () {
    const seconds = Number(process.env.TERMINAL_SECONDS ?? 5);
    this.timeout(60_000 + seconds * 3000);
    const terminal = cluster().worker().task(subject("t-road")).terminal();
    terminal.stdout.write("before anybody watches\n");
    await until("it is known", () => cluster().client().exists(cluster().keys.task("t-road")));
    const viewers = Array.from({ length: 12 }, (_, n) =>
      watcher("t-road", (n % 3) + 1, { user: `u${n}`, encoding: n % 2 === 0 ? "json" : "messagepack" }),
    );
    await Promise.all(viewers.map((one) => one.ready()));
    const written = [Buffer.from("before anybody watches\n")];
    for (let n = 0; n < seconds * 50; n++) {
      const bytes = randomBytes(MB / 50);
      written.push(bytes);
      const stream = n % 10 === 0 ? terminal.stderr : terminal.stdout;
      if (!stream.write(bytes)) await once(stream, "drain");
      await pause(20);
    }
    await terminal.end(7);
    const stream = Buffer.concat(written);
    for (const one of viewers) {
      await one.sees("the end", () => one.payloads("STREAM_END").length > 0);
      expect(one.dropped).to.deep.equal([]);
      expect(one.starts).to.equal(0);
      expect(hashOf(one.bytes)).to.equal(hashOf(stream));
      expect(one.payloads("STREAM_END")[0]).to.include({ exit_code: 7 });
    }
  });

  it("[D29] a program that prints as fast as it can is slowed down to the limit, and loses nothing", async () => {
    const slow = await startCluster({ nodes: 1 });
    const terminal = slow.worker().task(subject("t-fast")).terminal();
    await until("it is known", () => slow.client().exists(slow.keys.task("t-fast")));
    const viewer = await new TerminalWatcher(slow.node(1).url, "t-fast").ready();
    const child = spawn("sh", ["-c", "yes | head -c 3000000"], { stdio: ["ignore", "pipe", "inherit"] });
    onTeardown(() => void child.kill("SIGKILL"));
    const began = performance.now();
    child.stdout.pipe(terminal.stdout);
    await once(child, "close");
    await terminal.end(0);
    await viewer.sees("the end", () => viewer.payloads("STREAM_END").length > 0);
    expect(viewer.bytes.length).to.equal(3_000_000);
    expect(hashOf(viewer.bytes)).to.equal(hashOf(Buffer.from("y\n".repeat(1_500_000))));
    expect(viewer.dropped).to.deep.equal([]);
    // 3 MB at 1 MiB/s, less what a bucket and the pipes hold at once.
    expect(performance.now() - began).to.be.above(1000);
  });

  it("[D29] 20 terminals that nobody watches add nothing to Redis' traffic", async () => {
    const { client, worker } = cluster();
    const redis = client();
    const emitter = worker();
    const terminals = Array.from({ length: 20 }, (_, n) => emitter.task(subject(`t-quiet-${n}`)).terminal());
    await until(
      "all are known",
      async () =>
        (await redis.exists(...terminals.map((_, n) => cluster().keys.task(`t-quiet-${n}`)))) === 20,
    );
    const published = async () =>
      Number(/cmdstat_publish:calls=(\d+)/.exec(await redis.info("commandstats"))?.[1] ?? 0);
    const bytes = async () => Number(/total_net_input_bytes:(\d+)/.exec(await redis.info("stats"))?.[1] ?? 0);
    const [calls, before] = [await published(), await bytes()];
    for (let n = 0; n < 20; n++) {
      for (const { stdout } of terminals) stdout.write(randomBytes(MB / 20));
      await pause(20);
    }
    expect((await published()) - calls).to.be.below(40);
    // 20 MB were written; what passes is leases and the nodes' own work.
    expect((await bytes()) - before).to.be.below(MB);
    await Promise.all(terminals.map((terminal) => terminal.end(0)));
  });

  it("[D29] 100 MB through one terminal: the memory of emitter, node and viewer stays where it was", async function () {
    this.timeout(180_000);
    const own = await startCluster({
      nodes: 1,
      settings: { ...MEASURED, WS_TERMINAL_BYTES_PER_SECOND: String(100 * MB) },
    });
    process.env.WS_TERMINAL_BYTES_PER_SECOND = String(100 * MB);
    const emitter = own.worker();
    delete process.env.WS_TERMINAL_BYTES_PER_SECOND;
    const terminal = emitter.task(subject("t-long")).terminal();
    await until("it is known", () => own.client().exists(own.keys.task("t-long")));
    const viewer = new TerminalWatcher(own.node(1).url, "t-long");
    await viewer.ready();
    let seen = 0;
    const hash = createHash("sha256");
    const written = createHash("sha256");
    viewer.socket.offAny();
    viewer.socket.on("TERMINAL_OUTPUT", ({ payload: { data } }: { payload: { data: Uint8Array } }) => {
      seen += data.byteLength;
      hash.update(data);
    });
    const dropped: unknown[] = [];
    viewer.socket.on("BYTES_DROPPED", ({ payload }) => dropped.push(payload));
    const block = randomBytes(65_536);
    const blocks = Math.floor((100 * MB) / block.length);
    const writeSome = async (count: number) => {
      for (let n = 0; n < count; n++) {
        block.writeUInt32BE(n, 0);
        written.update(block);
        if (!terminal.stdout.write(Buffer.from(block))) await once(terminal.stdout, "drain");
        // No more under way than a viewer of a real terminal has: what is measured is memory, not speed.
        while (n * block.length > seen + 512 * 1024 && count === blocks) await pause(1);
      }
    };
    const [node, ours] = [await liveBytes(own.node(1)), ownLiveBytes()];
    await writeSome(blocks);
    await until("all of it came", () => seen === blocks * block.length);
    expect(dropped).to.deep.equal([]);
    expect(hash.digest("hex")).to.equal(written.digest("hex"));
    expect(((await liveBytes(own.node(1))) - node) / MB, "MB more of the node").to.be.below(20);
    expect((ownLiveBytes() - ours) / MB, "MB more of the emitter and the viewer, which are here").to.be.below(
      20,
    );
    await terminal.end(0);
  });

  it("[D29] a killed worker: STREAM_END worker_lost, and nobody listens any more", async () => {
    const { keys, client, redis } = cluster();
    const program = `
      import { createEmitter } from "@agentwire/emitter";
      const terminal = createEmitter({ redis: process.env.REDIS_URL })
        .task({ task_id: "t-killed", agent_id: "a1", project_id: "p1" }).terminal();
      setInterval(() => terminal.stdout.write("tick\\n"), 50);`;
    const child = spawn(process.execPath, ["--input-type=module", "-e", program], {
      env: { PATH: process.env.PATH, REDIS_URL: redis.url },
      stdio: "inherit",
    });
    onTeardown(() => void child.kill("SIGKILL"));
    await until("it is known", () => client().exists(keys.task("t-killed")));
    const viewer = await watcher("t-killed", 2).ready();
    await viewer.sees("ticks", () => viewer.bytes.length > 20);
    child.kill("SIGKILL");
    await viewer.sees("the end", () => viewer.payloads("STREAM_END").length > 0);
    expect(viewer.payloads("STREAM_END")[0]).to.deep.include({ reason: "worker_lost" });
    await until("nobody listens", async () => (await listening(client(), keys, "t-killed")) === 0);
  });
});
