import { spawn } from "node:child_process";
import { randomBytes } from "node:crypto";
import type { Socket } from "node:net";
import { AgentwireError, limits } from "@agentwire/shared";
import { expect } from "chai";
import { subject } from "../harness/emitters.js";
import { bytesOf, KB, publishedTerminals, write } from "../harness/published-terminal.js";
import { onTeardown } from "../harness/teardown.js";
import { until } from "../harness/wait.js";

describe("a task's terminal, published", () => {
  const { redis, keys, emitterOf, watched } = publishedTerminals();

  it("[D29] whose it is stands in Redis, for 15 s, and is renewed", async () => {
    const emitter = emitterOf();
    await redis().hset(keys.terminal("task-1"), { ended: "1", offset: "5", exit_code: "1" });
    const terminal = emitter.task({ ...subject, attempt: 3 }).terminal();
    const record = await until("the record", async () => {
      const all = await redis().hgetall(keys.terminal("task-1"));
      return all.project_id !== undefined && all;
    });
    expect(record).to.deep.equal({ project_id: "project-1", agent_id: "agent-1", attempt: "3" });
    expect(await redis().get(keys.task("task-1"))).to.equal("project-1");
    expect(await redis().pttl(keys.task("task-1"))).to.be.within(
      limits.agentRetentionMs - 60_000,
      limits.agentRetentionMs,
    );
    expect(await redis().pttl(keys.terminal("task-1"))).to.be.within(14_000, limits.terminalLeaseMs);
    await redis().pexpire(keys.terminal("task-1"), 8000);
    await until("it is renewed", async () => (await redis().pttl(keys.terminal("task-1"))) > 14_000);
    expect(() => emitter.task(subject).terminal())
      .to.throw(AgentwireError)
      .include({ code: "BAD_REQUEST" });

    terminal.stdout.write("12345");
    await terminal.end(-2);
    expect(await redis().hgetall(keys.terminal("task-1"))).to.deep.equal({
      ...{ project_id: "project-1", agent_id: "agent-1", attempt: "3" },
      ...{ ended: "1", offset: "5", exit_code: "-2" },
    });
    expect(await redis().pttl(keys.terminal("task-1"))).to.be.within(
      limits.terminalEndKeptMs - 5000,
      limits.terminalEndKeptMs,
    );
    await emitter.task(subject).terminal().end();
    expect(await redis().hgetall(keys.terminal("task-1"))).to.not.have.property("exit_code");
  });

  it("[D29] a closed emitter has published what was written, and says nothing about an end", async () => {
    const { node, terminal, emitter, task_id } = await watched();
    terminal.stdout.write("the last");
    await emitter.close();
    await node.settled();
    expect(bytesOf(node.heard).toString()).to.equal("the last");
    expect(node.ended()).to.equal(undefined);
    expect(await redis().hgetall(keys.terminal(task_id))).to.not.have.property("ended");
    expect(await redis().pttl(keys.terminal(task_id))).to.be.within(1, limits.terminalLeaseMs);
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

  it("[D13] an exit code that is no whole number is refused, and the terminal stays open", async () => {
    const { terminal } = await watched();
    const error = await terminal.end(1.5).catch((thrown) => thrown);
    expect(error).to.be.instanceOf(AgentwireError).and.include({ code: "BAD_REQUEST" });
    await terminal.end(1);
  });
});
