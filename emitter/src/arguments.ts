import { parseArgs } from "node:util";
import type { StatusChange } from "@agentwire/shared";
import { parseStatusChange } from "@agentwire/shared/redis";

export const usage = `agentwire run --agent ID --project ID [options] -- COMMAND [ARGUMENT...]

Runs COMMAND and publishes what became of it: "working" when it starts, "completed" when it
exits with 0, "failed" otherwise. Input, output and exit code are the command's own.

  --agent ID      the agent that does the work
  --project ID    the project it belongs to
  --task ID       the task it works on
  --attempt N     which try at the task this is, counted from 1
  --redis URL     default: REDIS_URL, or redis://127.0.0.1:6379
  --wait SECONDS  how long to go on publishing after the command ended while Redis is away
                  (default 30)
  --help, --version

Exit codes: the command's own; 128 + n when signal n ended it; 127 when there is no such command;
126 when it cannot be started; 2 when these arguments are wrong.
`;

/** Wrong arguments; the message is one line for the person who typed them. */
export class UsageError extends Error {}

export type Subject = Omit<StatusChange, "new_status" | "event_id">;

export interface RunArguments {
  command: "run";
  subject: Subject;
  redis: string;
  waitMs: number;
  file: string;
  args: string[];
}

export type Arguments = { command: "help" } | { command: "version" } | RunArguments;

/** @throws UsageError; AgentwireError where an id is not valid */
export function parseArguments(argv: string[], env: NodeJS.ProcessEnv): Arguments {
  const dashes = argv.indexOf("--");
  const { values, positionals } = parseOptions(dashes < 0 ? argv : argv.slice(0, dashes));
  const [file, ...args] = dashes < 0 ? [] : argv.slice(dashes + 1);

  if (values.help) return { command: "help" };
  if (values.version) return { command: "version" };
  const [command, extra] = positionals;
  if (command !== "run") {
    throw new UsageError(command ? `unknown command "${command}"` : "a command is missing: run");
  }
  if (extra !== undefined) throw new UsageError(`unexpected "${extra}": put the command to run after --`);
  if (!values.agent) throw new UsageError("--agent is missing");
  if (!values.project) throw new UsageError("--project is missing");
  if (!file) throw new UsageError("the command to run is missing: put it after --");

  const subject = {
    agent_id: values.agent,
    project_id: values.project,
    ...(values.task !== undefined && { task_id: values.task }),
    ...(values.attempt !== undefined && { attempt: numberOf("--attempt", values.attempt) }),
  };
  parseStatusChange({ ...subject, new_status: "working" });
  return {
    command: "run",
    subject,
    redis: values.redis || env.REDIS_URL || "redis://127.0.0.1:6379",
    waitMs: numberOf("--wait", values.wait) * 1000,
    file,
    args,
  };
}

function parseOptions(argv: string[]) {
  try {
    return parseArgs({
      args: argv,
      allowPositionals: true,
      options: {
        agent: { type: "string" },
        project: { type: "string" },
        task: { type: "string" },
        attempt: { type: "string" },
        redis: { type: "string" },
        wait: { type: "string", default: "30" },
        help: { type: "boolean", short: "h" },
        version: { type: "boolean" },
      },
    });
  } catch (error) {
    if (!(error instanceof TypeError)) throw error;
    throw new UsageError(error.message.split(". ")[0]);
  }
}

function numberOf(option: string, text: string): number {
  if (!/^\d{1,7}(\.\d+)?$/.test(text)) throw new UsageError(`${option} must be a number, not "${text}"`);
  return Number(text);
}
