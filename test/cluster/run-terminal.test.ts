import { execFileSync, spawn } from "node:child_process";
import { once } from "node:events";
import { closeSync, mkdtempSync, openSync, readFileSync, rmSync, symlinkSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { limits } from "@agentwire/shared";
import { decodeTerminal, type TerminalEnd, type TerminalMessage } from "@agentwire/shared/redis";
import { expect } from "chai";
import { readLog } from "../harness/events-log.js";
import { freePort } from "../harness/ports.js";
import { childrenOf, isAlive } from "../harness/processes.js";
import { sharedRedis } from "../harness/redis.js";
import { onTeardown } from "../harness/teardown.js";
import { until } from "../harness/wait.js";

const ENTRY = fileURLToPath(new URL("../../emitter/bin/agentwire.js", import.meta.url));
const TASK = "task-7";
const hasScript = (() => {
  try {
    return /util-linux/.test(execFileSync("script", ["--version"], { encoding: "utf8" }));
  } catch {
    return false;
  }
})();

interface Written {
  code: number | null;
  stdout: Buffer;
  stderr: Buffer;
}

function start(file: string, args: string[], { env = process.env, input = "" as string | Buffer } = {}) {
  const child = spawn(file, args, { stdio: "pipe", env });
  onTeardown(() => void child.kill("SIGKILL"));
  const written: Record<"stdout" | "stderr", Buffer[]> = { stdout: [], stderr: [] };
  child.stdout.on("data", (data: Buffer) => written.stdout.push(data));
  child.stderr.on("data", (data: Buffer) => written.stderr.push(data));
  child.stdin.on("error", () => {});
  child.stdin.end(input);
  const text = () => Buffer.concat(written.stdout).toString();
  const ended = once(child, "close").then(
    ([code]): Written => ({
      code,
      stdout: Buffer.concat(written.stdout),
      stderr: Buffer.concat(written.stderr),
    }),
  );
  return { child, ended, text };
}

describe("agentwire run --task", () => {
  const { server, redis, keys } = sharedRedis();

  const argsOf = (command: string[], { url = server().url, more = [] as string[] } = {}) => [
    ENTRY,
    ...["run", "--agent", "builder", "--project", "demo", "--task", TASK, "--redis", url, ...more, "--"],
    ...command,
  ];
  const run = (command: string[], options: Parameters<typeof argsOf>[1] & Parameters<typeof start>[2] = {}) =>
    start(process.execPath, argsOf(command, options), options);

  /** Somebody watches from before the beginning. */
  async function watch() {
    const heard: TerminalMessage[] = [];
    const subscriber = server().client();
    onTeardown(() => subscriber.disconnect());
    subscriber.on("messageBuffer", (_: Buffer, bytes: Buffer) => {
      heard.push(decodeTerminal(bytes) as TerminalMessage);
    });
    await subscriber.subscribe(keys.terminalOutput(TASK));
    await redis().set(keys.terminalWatched(TASK), "1", "PX", limits.terminalLeaseMs);
    return {
      bytes: (stream: "stdout" | "stderr") =>
        Buffer.concat(heard.flatMap((one) => ("data" in one && one.stream === stream ? [one.data] : []))),
      end: () => until("the end", () => heard.find((message): message is TerminalEnd => "end" in message)),
    };
  }
  const said = async () => (await readLog(redis())).map(({ envelope: { payload } }) => payload.new_status);

  const bar =
    'for (let n = 0; n <= 100; n += 5) process.stdout.write("\\r[" + "#".repeat(n / 5).padEnd(20) + "] " + n + "%");';
  const programs: [string, string[]][] = [
    ["git log --color", ["git", "log", "--color", "-n", "30", "--stat"]],
    ["a progress bar with carriage returns", [process.execPath, "-e", bar]],
    ["no final newline", ["printf", "no newline"]],
    ["NUL, ANSI and invalid UTF-8", ["printf", "\\000\\033[31mred\\377\\376\\303("]],
    ["nothing", ["true"]],
    ["stdout and stderr, and an exit code", ["sh", "-c", "echo out; echo err >&2; printf more; exit 3"]],
    ["a signal to itself", ["sh", "-c", "echo before; kill -KILL $$"]],
    ["input", ["tr", "a-z", "A-Z"]],
  ];
  for (const [title, command] of programs) {
    it(`[D29] ${title}: the same bytes as without us, and the same for who watches`, async () => {
      const input = "some input\n";
      const [file = "", ...args] = command;
      const plain = await start(file, args, { input }).ended;
      const viewer = await watch();
      const { code, stdout, stderr } = await run(command, { input }).ended;
      expect(stdout.equals(plain.stdout), "stdout").to.equal(true);
      expect(stderr.equals(plain.stderr), "stderr").to.equal(true);
      expect(code).to.equal(plain.code ?? 137);
      const end = await viewer.end();
      expect(viewer.bytes("stdout").equals(plain.stdout), "stdout of the terminal").to.equal(true);
      expect(viewer.bytes("stderr").equals(plain.stderr), "stderr of the terminal").to.equal(true);
      expect(end).to.include({ exit_code: code, offset: stdout.length + stderr.length });
      expect(await said()).to.deep.equal(["working", code === 0 ? "completed" : "failed"]);
    });
  }

  it("[D29] a coloured run of tests: who watches sees what was printed", async () => {
    const mocha = fileURLToPath(new URL("../../node_modules/mocha/bin/mocha.js", import.meta.url));
    const viewer = await watch();
    const { code, stdout, stderr } = await run([
      process.execPath,
      mocha,
      "--color",
      "test/unit/address.test.ts",
    ]).ended;
    expect({ code, stderr: stderr.toString() }).to.deep.equal({ code: 0, stderr: "" });
    expect(stdout.toString()).to.include("\u001b[32m").and.include("passing");
    await viewer.end();
    expect(viewer.bytes("stdout").equals(stdout)).to.equal(true);
  });

  it("[D29] 1 MB of anything, as fast as it comes, watched or not", async () => {
    const command = ["sh", "-c", "head -c 1000000 /dev/urandom | tee $COPY"];
    for (const isWatched of [true, false]) {
      const copy = join(folder(), "copy");
      const viewer = isWatched ? await watch() : undefined;
      if (!isWatched) await redis().del(keys.terminalWatched(TASK));
      const { code, stdout } = await run(command, { env: { ...process.env, COPY: copy } }).ended;
      expect(code).to.equal(0);
      expect(stdout.equals(readFileSync(copy))).to.equal(true);
      if (viewer) {
        expect(await viewer.end()).to.include({ offset: stdout.length });
        expect(viewer.bytes("stdout").equals(stdout)).to.equal(true);
      }
    }
  });

  it("[D29] the command has pipes, not sockets: it may open /dev/stdout", async () => {
    const { stdout, stderr } = await run(["sh", "-c", "echo here > /dev/stdout; echo there > /dev/stderr"])
      .ended;
    expect([String(stdout), String(stderr)]).to.deep.equal(["here\n", "there\n"]);
  });

  it("[D29] 2>&1 keeps the order of both", async () => {
    const script = "for n in 1 2 3 4 5 6 7 8 9; do echo out $n; echo err $n >&2; done";
    const path = join(folder(), "both");
    const file = openSync(path, "w");
    const child = spawn(process.execPath, argsOf(["sh", "-c", script]), { stdio: ["ignore", file, file] });
    closeSync(file);
    const [code] = await once(child, "exit");
    expect(code).to.equal(0);
    expect(readFileSync(path).equals(execFileSync("sh", ["-c", `(${script}) 2>&1`]))).to.equal(true);
  });

  it("[D29] nobody reads our output any more: the command learns it as it would without us", async () => {
    const { child, ended } = run(["sh", "-c", "yes; echo $? >&2"]);
    await once(child.stdout, "data");
    child.stdout.destroy();
    const { stderr } = await ended;
    expect(stderr.toString().trim()).to.match(/^(\d+)?$/);
    expect((await redis().hgetall(keys.terminal(TASK))).ended).to.equal("1");
  });

  it("[D29] who reads slowly holds the command up, and a signal still reaches it", async () => {
    const slow = spawn(process.execPath, argsOf(["yes"]), { stdio: ["ignore", "pipe", "inherit"] });
    onTeardown(() => void slow.kill("SIGKILL"));
    slow.stdout.pause();
    await until("the command runs", () => childrenOf(slow.pid as number).length > 0);
    await until("the lease", () => redis().exists(keys.terminal(TASK)));
    await redis().pexpire(keys.terminal(TASK), 7000);
    await until("it is renewed", async () => (await redis().pttl(keys.terminal(TASK))) > 10_000);
    const [command = 0] = childrenOf(slow.pid as number);
    slow.kill("SIGTERM");
    await until("the command is gone", () => !isAlive(command));
    slow.stdout.resume();
    const [code] = await once(slow, "close");
    expect(code).to.equal(143);
  });

  it("[D29] what the command leaves running does not hold us up", async () => {
    const { code, stdout } = await run(["sh", "-c", "sleep 20 & echo started"]).ended.then(
      (written) => written,
    );
    expect(code).to.equal(0);
    expect(stdout.toString()).to.equal("started\n");
  });

  it("[D29] killed, it says nothing about an end, the lease runs out, and the command ends when it writes", async () => {
    const { child, ended, text } = run(["sh", "-c", "while echo x; do sleep 0.1; done"]);
    await until("it runs", () => text().includes("x") && redis().exists(keys.terminal(TASK)));
    const [command = 0] = childrenOf(child.pid as number);
    child.kill("SIGKILL");
    await ended;
    await until("the command is gone", () => !isAlive(command));
    expect(await redis().hgetall(keys.terminal(TASK))).to.not.have.property("ended");
    expect(await redis().pttl(keys.terminal(TASK))).to.be.within(1, limits.terminalLeaseMs);
  });

  it("[D29] without Redis the command writes and ends all the same", async () => {
    const url = `redis://127.0.0.1:${await freePort()}`;
    const command = ["sh", "-c", "head -c 500000 /dev/zero; exit 4"];
    const { code, stdout } = await run(command, { url, more: ["--wait", "0"] }).ended;
    expect(code).to.equal(4);
    expect(stdout.length).to.equal(500_000);
  });

  it("[D14] a command that does not exist is failed, with 127", async () => {
    const { code, stderr } = await run(["no-such-command-here"]).ended;
    expect(code).to.equal(127);
    expect(stderr.toString()).to.equal("agentwire: cannot start no-such-command-here: command not found\n");
    expect(await redis().hgetall(keys.terminal(TASK))).to.include({ ended: "1", exit_code: "127" });
  });

  it("[D29] where no pipe can be made, the command runs all the same, and one line says what is missing", async () => {
    const env = { ...process.env, TMPDIR: "/no/such/folder" };
    const { code, stdout, stderr } = await run(["sh", "-c", "echo out; exit 3"], { env }).ended;
    expect(code).to.equal(3);
    expect(stdout.toString()).to.equal("out\n");
    expect(stderr.toString()).to.match(/^agentwire: the terminal is not streamed: [^\n]*\n$/);
  });

  describe("--pty", () => {
    before(function () {
      if (!hasScript) this.skip();
    });

    it("[D29] the command has a terminal, its arguments exactly, its SHELL, and its exit code", async () => {
      const viewer = await watch();
      const odd = "a 'b' \"c\" $HOME `id` \\ \n*";
      const path = join(folder(), "arguments");
      writeFileSync(path, "");
      const script = `require("fs").writeFileSync(process.env.TO, JSON.stringify([process.stdout.isTTY, process.env.SHELL, ...process.argv.slice(1)])); console.log("seen"); process.exit(5)`;
      const env = { ...process.env, TO: path, SHELL: "/no/such shell" };
      const { code, stdout } = await run([process.execPath, "-e", script, odd, ""], { more: ["--pty"], env })
        .ended;
      expect(JSON.parse(readFileSync(path, "utf8"))).to.deep.equal([true, "/no/such shell", odd, ""]);
      expect(code).to.equal(5);
      expect(stdout.toString()).to.contain("seen\r\n");
      expect(await viewer.end()).to.include({ exit_code: 5 });
      expect(viewer.bytes("stdout").equals(stdout)).to.equal(true);
    });

    it("[D29] SIGTERM reaches the command, and what it makes of it is published", async () => {
      for (const [script, expected] of [
        ["echo ready; exec sleep 100", 143],
        ["trap 'exit 5' TERM; echo ready; while true; do sleep 0.1; done", 5],
      ] as const) {
        await redis().flushall();
        const { child, ended, text } = run(["sh", "-c", script], { more: ["--pty"] });
        await until("it runs", () => text().includes("ready"));
        child.kill("SIGTERM");
        expect((await ended).code).to.equal(expected);
        expect(await said()).to.deep.equal(["working", "failed"]);
      }
    });

    it("[D29] without script one line says what is missing", async () => {
      const bin = folder();
      for (const name of ["mkfifo"]) {
        symlinkSync(execFileSync("which", [name], { encoding: "utf8" }).trim(), join(bin, name));
      }
      const { code, stderr } = await run(["true"], { more: ["--pty"], env: { ...process.env, PATH: bin } })
        .ended;
      expect(code).to.equal(127);
      expect(stderr.toString()).to.match(/^agentwire: cannot start script \(of util-linux\).*not found\n$/);
    });
  });

  function folder(): string {
    const made = mkdtempSync(join(tmpdir(), "agentwire-run-"));
    onTeardown(() => rmSync(made, { recursive: true, force: true }));
    return made;
  }
});
