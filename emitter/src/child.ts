import { spawn } from "node:child_process";
import { constants } from "node:os";
import { isatty } from "node:tty";
import type { Status } from "@agentwire/shared";
import { Tee } from "./tee.js";
import type { Terminal } from "./terminal.js";

/** What became of a command: what to publish, and the exit code that a shell would give it. */
export interface Outcome {
  exitCode: number;
  new_status: Extract<Status, "completed" | "failed">;
  message?: string;
  /** It never ran. */
  notStarted?: boolean;
}

const FORWARDED = ["SIGINT", "SIGTERM", "SIGHUP"] as const;

export interface Command {
  file: string;
  args: string[];
  env?: NodeJS.ProcessEnv;
  /** What to call it where it cannot be started. */
  what?: string;
  /** It writes to its descriptor 3 which process the signals are for, in a line. */
  tellsPid?: boolean;
}

/**
 * Runs a command with our own input and output, and hands on the signals that ask it to stop. What it writes goes to
 * `terminal` too, where there is one; settles when all of it has been handed on.
 */
export async function runChild(
  { file, args, env, what = file, tellsPid }: Command,
  terminal?: Terminal,
): Promise<Outcome> {
  const forward = (signal: NodeJS.Signals) => {
    // A terminal sends Ctrl-C to the whole foreground group: the child has it already, and two may mean "at once".
    if (signal !== "SIGTERM" && (isatty(0) || isatty(1))) return;
    if (pid === undefined) child?.kill(signal);
    else kill(pid, signal);
  };
  let pid: number | undefined;
  let child: ReturnType<typeof spawn> | undefined;
  for (const signal of FORWARDED) process.on(signal, forward);
  try {
    return await new Promise<Outcome>((resolve, reject) => {
      const tee = terminal && teeTo(terminal);
      const [stdout, stderr] = tee?.stdio ?? (["inherit", "inherit"] as const);
      const started = spawn(file, args, {
        stdio: ["inherit", stdout, stderr, ...(tellsPid ? (["pipe"] as const) : [])],
        ...(env && { env }),
      });
      child = started;
      tee?.begin(started);
      if (tellsPid) {
        started.stdio[3]?.once("data", (line: Buffer) => {
          pid = Number(line.toString());
        });
      }
      started.once("error", reject);
      started.once("exit", async (code, signal) => {
        await tee?.end();
        resolve(signal ? signalled(signal) : exited(code ?? 0));
      });
    });
  } catch (error) {
    return notStarted(what, error as NodeJS.ErrnoException);
  } finally {
    for (const signal of FORWARDED) process.off(signal, forward);
  }
}

function kill(pid: number, signal: NodeJS.Signals): void {
  try {
    process.kill(pid, signal);
  } catch (error) {
    // It has ended, and we are about to hear of it.
    if ((error as NodeJS.ErrnoException).code !== "ESRCH") throw error;
  }
}

/** The command runs all the same where there can be no pipe. */
function teeTo(terminal: Terminal): Tee | undefined {
  try {
    return new Tee(terminal);
  } catch (error) {
    process.stderr.write(`agentwire: the terminal is not streamed: ${(error as Error).message}\n`);
    return undefined;
  }
}

function exited(exitCode: number): Outcome {
  if (exitCode === 0) return { exitCode, new_status: "completed" };
  return { exitCode, new_status: "failed", message: `exit code ${exitCode}` };
}

function signalled(signal: NodeJS.Signals): Outcome {
  return { exitCode: 128 + constants.signals[signal], new_status: "failed", message: `signal ${signal}` };
}

function notStarted(what: string, error: NodeJS.ErrnoException): Outcome {
  const why = { ENOENT: "command not found", EACCES: "not executable" }[error.code ?? ""] ?? error.message;
  return {
    exitCode: error.code === "ENOENT" ? 127 : 126,
    new_status: "failed",
    message: `cannot start ${what.slice(0, 200)}: ${why}`,
    notStarted: true,
  };
}
