import { spawn } from "node:child_process";
import { once } from "node:events";
import { fileURLToPath } from "node:url";
import { expect } from "chai";
import { readLog } from "../harness/events-log.js";
import { freePort } from "../harness/ports.js";
import { sharedRedis, startRedis } from "../harness/redis.js";

const ENTRY = fileURLToPath(new URL("../../emitter/bin/agentwire.js", import.meta.url));

/** Starts the real command line, and collects what it writes. */
function agentwire(args: string[], input: string | Buffer = "") {
  const child = spawn(process.execPath, [ENTRY, ...args], { stdio: "pipe" });
  const written: { stdout: Buffer[]; stderr: Buffer[] } = { stdout: [], stderr: [] };
  child.stdout.on("data", (data: Buffer) => written.stdout.push(data));
  child.stderr.on("data", (data: Buffer) => written.stderr.push(data));
  child.stdin.on("error", () => {});
  child.stdin.end(input);
  const ended = once(child, "close").then(([code]) => ({
    code: code as number,
    stdout: Buffer.concat(written.stdout),
    stderr: Buffer.concat(written.stderr).toString(),
  }));
  return { child, ended, output: () => Buffer.concat(written.stdout).toString() };
}

describe("agentwire run", () => {
  const { server, redis } = sharedRedis();

  const run = (
    command: string[],
    { url = server().url, input = "" as string | Buffer, more = [] as string[] } = {},
  ) =>
    agentwire(
      ["run", "--agent", "builder", "--project", "demo", "--redis", url, ...more, "--", ...command],
      input,
    );

  const published = async () =>
    (await readLog(redis())).map(({ envelope: { payload } }) =>
      payload.message === undefined ? payload.new_status : `${payload.new_status}: ${payload.message}`,
    );

  it("[D14] exit 0 is working, then completed", async () => {
    const more = ["--task", "task-7", "--attempt", "2"];
    const { code, stderr } = await run(["true"], { more }).ended;
    expect({ code, stderr }).to.deep.equal({ code: 0, stderr: "" });
    const payloads = (await readLog(redis())).map(({ envelope }) => envelope.payload);
    const about = { agent_id: "builder", project_id: "demo", task_id: "task-7", attempt: 2 };
    expect(payloads).to.deep.equal([
      { ...about, old_status: null, new_status: "working" },
      { ...about, old_status: "working", new_status: "completed" },
    ]);
  });

  it("[D14] exit 3 is failed, and the exit code is handed on", async () => {
    const { code } = await run(["sh", "-c", "exit 3"]).ended;
    expect(code).to.equal(3);
    expect(await published()).to.deep.equal(["working", "failed: exit code 3"]);
  });

  it("[D14] a command that is killed is failed with the signal's name", async () => {
    const { code } = await run(["sh", "-c", "kill -KILL $$"]).ended;
    expect(code).to.equal(137);
    expect(await published()).to.deep.equal(["working", "failed: signal SIGKILL"]);
  });

  it("[D14] a command that does not exist is failed, with 127", async () => {
    const { code, stderr } = await run(["no-such-command-here"]).ended;
    expect(code).to.equal(127);
    expect(stderr).to.equal("agentwire: cannot start no-such-command-here: command not found\n");
    expect(await published()).to.deep.equal([
      "working",
      "failed: cannot start no-such-command-here: command not found",
    ]);
  });

  it("[D14] a file that is not executable is failed, with 126", async () => {
    const { code } = await run([fileURLToPath(import.meta.url)]).ended;
    expect(code).to.equal(126);
    expect((await published())[1]).to.match(/^failed: cannot start .*: not executable$/);
  });

  it("[D14] input and output pass through byte for byte", async () => {
    const input = Buffer.alloc(300_000, Buffer.from([0, 255, 27, 10, 13, 0xc3, 128]));
    const { code, stdout, stderr } = await run(["sh", "-c", "cat; echo problem >&2"], { input }).ended;
    expect(code).to.equal(0);
    expect(stdout.equals(input), "the same bytes").to.equal(true);
    expect(stderr).to.equal("problem\n");
  });

  for (const signal of ["SIGINT", "SIGTERM"] as const) {
    it(`[D14] ${signal} reaches the command, and what it makes of it is published`, async () => {
      const script = `process.on("${signal}", () => process.exit(5)); console.log("ready"); setInterval(() => {}, 1000)`;
      const { child, ended, output } = run([process.execPath, "-e", script]);
      while (!output().includes("ready")) await once(child.stdout, "data");
      child.kill(signal);
      expect((await ended).code).to.equal(5);
      expect(await published()).to.deep.equal(["working", "failed: exit code 5"]);
    });
  }

  it("[D14] without Redis the command runs all the same, and one line says what was not published", async () => {
    const url = `redis://127.0.0.1:${await freePort()}`;
    const { code, stdout, stderr } = await run(["sh", "-c", "echo done; exit 4"], {
      url,
      more: ["--wait", "1"],
    }).ended;
    expect(code).to.equal(4);
    expect(stdout.toString()).to.equal("done\n");
    expect(stderr).to.match(
      /^agentwire: "working" and "failed" of agent builder not published: .*ECONNREFUSED.*\n$/,
    );
  });

  it("[D14] when Redis comes back after the command ended, both are published in order", async () => {
    const port = await freePort();
    const { ended, child, output } = run(["echo", "done"], { url: `redis://127.0.0.1:${port}` });
    while (!output().includes("done")) await once(child.stdout, "data");
    const late = await startRedis({ port });
    try {
      const { code, stderr } = await ended;
      expect({ code, stderr }).to.deep.equal({ code: 0, stderr: "" });
      const log = await readLog(late.client());
      expect(log.map(({ envelope }) => envelope.payload.new_status)).to.deep.equal(["working", "completed"]);
    } finally {
      await late.stop();
    }
  });

  const refused: [string, string[], RegExp][] = [
    ["no command", [], /a command is missing/],
    ["an unknown option", ["run", "--agnt", "x"], /'--agnt'/],
    ["no agent", ["run", "--project", "p", "--", "true"], /--agent is missing/],
    ["nothing to run", ["run", "--agent", "a", "--project", "p"], /command to run is missing/],
    ["a bad id", ["run", "--agent", "a b", "--project", "p", "--", "true"], /agent_id/],
    [
      "a bad attempt",
      ["run", "--agent", "a", "--project", "p", "--attempt", "two", "--", "true"],
      /--attempt/,
    ],
  ];
  for (const [title, args, message] of refused) {
    it(`[D13] ${title}: one line, exit code 2, nothing run or published`, async () => {
      const { code, stdout, stderr } = await agentwire(args).ended;
      expect(code).to.equal(2);
      expect(stdout.toString()).to.equal("");
      expect(stderr)
        .to.match(/^agentwire: [^\n]+\n$/)
        .and.match(message);
      expect(await redis().dbsize()).to.equal(0);
    });
  }
});
