import type { RunArguments } from "./arguments.js";
import { type Command, runChild } from "./child.js";
import { createEmitter } from "./index.js";
import { withPty } from "./pty.js";
import { Report } from "./report.js";

/** Runs a command, publishes what it really did, and returns the exit code to end with. */
export async function run({ subject, redis, waitMs, file, args, pty }: RunArguments): Promise<number> {
  const emitter = createEmitter({ redis });
  const report = new Report(emitter);
  const { task_id, agent_id, project_id, attempt = 1 } = subject;
  const about = { agent_id, project_id, attempt };
  const giveUp = () => report.giveUp();
  try {
    report.say({ ...subject, new_status: "working" });
    const terminal = task_id === undefined ? undefined : emitter.task({ ...about, task_id }).terminal();
    const command: Command = pty ? withPty(file, args, process.env) : { file, args };
    const { exitCode, new_status, message, notStarted } = await runChild(command, terminal);
    // The command is over: who asks us to stop now asks us not to wait for Redis.
    process.on("SIGINT", giveUp).on("SIGTERM", giveUp).on("SIGHUP", giveUp);
    if (notStarted) process.stderr.write(`agentwire: ${message}\n`);
    await terminal?.end(exitCode);
    report.say({ ...subject, new_status, ...(message !== undefined && { message }) });
    const lost = await report.finish(waitMs);
    if (lost) {
      const statuses = lost.statuses.map((status) => `"${status}"`).join(" and ");
      process.stderr.write(
        `agentwire: ${statuses} of agent ${subject.agent_id} not published: ${lost.cause.message}\n`,
      );
    }
    return exitCode;
  } finally {
    await emitter.close();
    process.off("SIGINT", giveUp).off("SIGTERM", giveUp).off("SIGHUP", giveUp);
  }
}
