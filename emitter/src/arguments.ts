import { parseArgs } from "node:util";
import { Id, type StatusChange } from "@agentwire/shared";
import { parseStatusChange, type RedisAddress } from "@agentwire/shared/redis";
import { addressIn } from "./address.js";
import type { TokenRequest } from "./token.js";

export const usage = `agentwire run --agent ID --project ID [options] -- COMMAND [ARGUMENT...]
agentwire token --user ID --projects ID,ID... [--expires TIME]

run

Runs COMMAND and publishes what became of it: "working" when it starts, "completed" when it
exits with 0, "failed" otherwise. Input, output and exit code are the command's own. With --task, who
watches the task also sees what the command writes, while it does; the command then writes into pipes
and sees no terminal, so that many programs print no colours: --pty gives them one.

  --agent ID      the agent that does the work
  --project ID    the project it belongs to
  --task ID       the task it works on
  --attempt N     which try at the task this is, counted from 1
  --pty           give the command a terminal of its own, with the program script of util-linux;
                  stdout and stderr are then one, and lines end in CR LF
  --redis URL     default: REDIS_URL, REDIS_SENTINELS and REDIS_SENTINEL_NAME, or REDIS_CLUSTER_NODES, as for
                  a node; redis://127.0.0.1:6379 without any of them
  --wait SECONDS  how long to go on publishing after the command ended while Redis is away
                  (default 30)

Exit codes: the command's own; 128 + n when signal n ended it; 127 when there is no such command;
126 when it cannot be started; 2 when these arguments are wrong.

token

Prints a token for development, signed with JWT_SECRET, for nodes with the same JWT_SECRET,
JWT_AUDIENCE (default authenticated) and JWT_ISSUER (default none).

  --user ID       who comes in with it
  --projects IDS  the projects that this user may see, separated by commas
  --expires TIME  how long it is good: 30s, 15m, 1h, 7d; at most 365d (default 1h)

Exit codes: 0; 2 when these arguments are wrong or JWT_SECRET is not set.

agentwire --help, agentwire --version
`;

/** Wrong arguments; the message is one line for the person who typed them. */
export class UsageError extends Error {}

export type Subject = Omit<StatusChange, "new_status" | "event_id">;

export interface RunArguments {
  command: "run";
  subject: Subject;
  redis: RedisAddress;
  waitMs: number;
  file: string;
  args: string[];
  pty: boolean;
}

export interface TokenArguments extends TokenRequest {
  command: "token";
}

export type Arguments = { command: "help" } | { command: "version" } | RunArguments | TokenArguments;

const OPTIONS = {
  run: {
    agent: { type: "string" },
    project: { type: "string" },
    task: { type: "string" },
    attempt: { type: "string" },
    pty: { type: "boolean" },
    redis: { type: "string" },
    wait: { type: "string" },
  },
  token: {
    user: { type: "string" },
    projects: { type: "string" },
    expires: { type: "string" },
  },
  any: {
    help: { type: "boolean", short: "h" },
    version: { type: "boolean" },
  },
} as const;

type Values = ReturnType<typeof parseOptions>["values"];

/** @throws UsageError; AgentwireError where an id is not valid */
export function parseArguments(argv: string[], env: NodeJS.ProcessEnv): Arguments {
  const dashes = argv.indexOf("--");
  const { values, positionals } = parseOptions(dashes < 0 ? argv : argv.slice(0, dashes));
  const toRun = dashes < 0 ? undefined : argv.slice(dashes + 1);

  if (values.help) return { command: "help" };
  if (values.version) return { command: "version" };
  const [command, extra] = positionals;
  if (command !== "run" && command !== "token") {
    throw new UsageError(command ? `unknown command "${command}"` : "a command is missing: run or token");
  }
  const foreign = Object.keys(values).find((name) => !(name in OPTIONS[command]));
  if (foreign !== undefined) throw new UsageError(`--${foreign} is no option of ${command}`);
  if (command === "run") {
    if (extra !== undefined) throw new UsageError(`unexpected "${extra}": put the command to run after --`);
    return runArguments(values, toRun ?? [], env);
  }
  const unexpected = extra ?? (toRun && "--");
  if (unexpected !== undefined) throw new UsageError(`unexpected "${unexpected}"`);
  return tokenArguments(values, env);
}

function runArguments(values: Values, [file, ...args]: string[], env: NodeJS.ProcessEnv): RunArguments {
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
    redis: values.redis ? { kind: "url", url: values.redis } : addressIn(env),
    waitMs: numberOf("--wait", values.wait ?? "30") * 1000,
    file,
    args,
    pty: values.pty ?? false,
  };
}

function tokenArguments({ user, projects, expires }: Values, env: NodeJS.ProcessEnv): TokenArguments {
  if (!user) throw new UsageError("--user is missing");
  if (!projects) throw new UsageError("--projects is missing");
  if (!env.JWT_SECRET) throw new UsageError("JWT_SECRET is not set: the secret that the nodes have");
  return {
    command: "token",
    user: idOf("--user", user),
    projects: projects.split(",").map((id) => idOf("--projects", id)),
    expiresInS: secondsOf("--expires", expires ?? "1h"),
    secret: env.JWT_SECRET,
    audience: env.JWT_AUDIENCE || "authenticated",
    ...(env.JWT_ISSUER && { issuer: env.JWT_ISSUER }),
  };
}

function parseOptions(argv: string[]) {
  try {
    return parseArgs({
      args: argv,
      allowPositionals: true,
      options: { ...OPTIONS.run, ...OPTIONS.token, ...OPTIONS.any },
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

function idOf(option: string, text: string): string {
  const { success, error } = Id.safeParse(text);
  if (!success) throw new UsageError(`${option}: "${text}" ${error.issues[0]?.message}`);
  return text;
}

const SECONDS: Record<string, number> = { s: 1, m: 60, h: 3600, d: 86_400 };
const MOST_S = 365 * 86_400;

function secondsOf(option: string, text: string): number {
  const [, digits, unit = ""] = /^(\d{1,8})([smhd])$/.exec(text) ?? [];
  const seconds = Number(digits) * (SECONDS[unit] ?? Number.NaN);
  if (seconds > 0 && seconds <= MOST_S) return seconds;
  throw new UsageError(`${option} must be a time such as 30s, 15m, 1h or 7d, at most 365d, not "${text}"`);
}
