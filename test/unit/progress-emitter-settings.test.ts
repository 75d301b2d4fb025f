import { spawn } from "node:child_process";
import { once } from "node:events";
import { setTimeout as sleep } from "node:timers/promises";
import { createEmitter } from "@agentwire/emitter";
import { AgentwireError, limits } from "@agentwire/shared";
import { redisKeys } from "@agentwire/shared/redis";
import { expect } from "chai";
import { subject } from "../harness/emitters.js";
import { publishedProgress, steps } from "../harness/published-progress.js";
import { onTeardown } from "../harness/teardown.js";
import { until } from "../harness/wait.js";

describe("a task's progress, published", () => {
  const { server, redis, keys, emitterOf, hear, asking } = publishedProgress();

  it("[D28] close lets what was gathered out, and leaves no connection", async () => {
    const nodes = await hear(keys.progress("project-1"));
    const emitter = createEmitter({ redis: server().url });
    const task = emitter.task(subject);
    task.progress(steps(42));
    await emitter.close();
    await until("the last value", () => nodes.payloads()[0]?.current_step === 42);
    expect(() => task.progress(steps(43)))
      .to.throw(AgentwireError, "closed")
      .with.property("code", "UNAVAILABLE");
    await until("no emitter listens", async () => {
      const [, count] = (await redis().pubsub("NUMSUB", keys.progressAsked)) as [string, number];
      return Number(count) === 0;
    });
  });

  it("[D28] close waits a second at most while Redis is away, and a process can end after it", async () => {
    const away = createEmitter({ redis: "redis://127.0.0.1:1" });
    away.task(subject).progress(steps(42));
    const started = performance.now();
    await away.close();
    expect(performance.now() - started).to.be.within(900, 2000);

    const program = `import { createEmitter } from "@agentwire/emitter";
      for (const redis of process.argv.slice(1)) {
        const emitter = createEmitter({ redis });
        emitter.task(${JSON.stringify(subject)}).progress({ progress_percent: 1 });
        await emitter.close();
      }`;
    const args = ["--input-type=module", "--eval", program, server().url, "redis://127.0.0.1:1"];
    const child = spawn(process.execPath, args, { stdio: "inherit" });
    onTeardown(() => void child.kill("SIGKILL"));
    expect(await once(child, "exit")).to.deep.equal([0, null]);
  });

  it("[D28] a client of the caller stays open and gets no subscription of its own", async () => {
    const client = server().client();
    const emitter = createEmitter({ redis: client });
    emitter.task(subject).progress(steps(1));
    await asking();
    expect(client.mode).to.equal("normal");
    await emitter.close();
    expect(await client.ping()).to.equal("PONG");
  });

  it("[D28] the prefixes chosen are the prefixes of the channels", async () => {
    const other = redisKeys("{other}", "bus.");
    const nodes = await hear(other.progress("project-1"), other.bus("PROGRESS_UPDATE"));
    emitterOf({ keyPrefix: "{other}", busPrefix: "bus." }).task(subject).progress(steps(1));
    await until("both", () => new Set(nodes.heard.map(({ channel }) => channel)).size === 2);
    await sleep(2 * limits.progressBatchMs);
    nodes.clear();
    await redis().publish(other.progressAsked, JSON.stringify({ project_id: "project-1" }));
    await until("again", () => nodes.heard[0]?.channel === other.progress("project-1"));
  });

  it("[D28] WS_PROGRESS_BATCH_MS is the time of a batch, and a bad one is refused", async () => {
    const set = (value: string | undefined) => {
      if (value === undefined) delete process.env.WS_PROGRESS_BATCH_MS;
      else process.env.WS_PROGRESS_BATCH_MS = value;
    };
    const before = process.env.WS_PROGRESS_BATCH_MS;
    onTeardown(() => set(before));
    for (const bad of ["soon", "-1", "1.5", "60001"]) {
      set(bad);
      expect(() => createEmitter({ redis: server().url }), bad)
        .to.throw(AgentwireError, "WS_PROGRESS_BATCH_MS")
        .with.property("code", "BAD_REQUEST");
    }
    set("60000");
    const nodes = await hear(keys.progress("project-1"));
    const emitter = emitterOf();
    set("");
    const task = emitter.task(subject);
    task.progress(steps(1));
    await sleep(3 * limits.progressBatchMs);
    await nodes.settled();
    expect(nodes.heard).to.have.length(0);
    task.progress(steps(100));
    await until("the last one leaves at once", () => nodes.payloads()[0]?.batched_updates === 2);
  });
});
