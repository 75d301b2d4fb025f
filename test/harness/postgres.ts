import { type ChildProcess, execFileSync, spawn } from "node:child_process";
import { once } from "node:events";
import { existsSync, readdirSync, rmSync } from "node:fs";
import { appendFile, readFile, rm } from "node:fs/promises";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import pg from "pg";
import { freePort } from "./ports.js";
import { childrenOf, folderOf, isAlive, kill, unprivileged } from "./processes.js";
import { keepBeyondTest, onTeardown } from "./teardown.js";
import { until } from "./wait.js";

const READY_MS = 20_000;
const DEBIAN = "/usr/lib/postgresql";

/** As in Supabase: who logs in may read nothing, and becomes `authenticated`, which sees what the policies let it. */
const TABLES = `
  create role authenticated nologin noinherit;
  create role node login noinherit;
  grant authenticated to node;

  create schema auth;
  grant usage on schema auth to authenticated;
  create function auth.uid() returns text language sql stable
    return nullif(current_setting('request.jwt.claims', true), '')::json ->> 'sub';

  create table projects (id text primary key);
  create table members (project_id text references projects on delete cascade, user_id text);
  create table tasks (id text primary key, project_id text references projects on delete cascade);
  grant select on projects, members, tasks to authenticated;
  alter table projects enable row level security;
  alter table members enable row level security;
  alter table tasks enable row level security;
  create policy own on members for select to authenticated using (user_id = auth.uid());
  create policy member on projects for select to authenticated
    using (id in (select project_id from members));
  create policy member on tasks for select to authenticated
    using (project_id in (select id from projects));
`;

export type PostgresServer = Awaited<ReturnType<typeof startPostgres>>;

/** A real PostgreSQL of its own, with the tables and policies above. It is stopped and removed after the test. */
export async function startPostgres() {
  const owner = unprivileged("postgres");
  const folder = folderOf("agentwire-postgres-", owner);
  const data = join(folder, "data");
  const log = join(folder, "postgres.log");
  const port = await freePort();
  let server: ChildProcess | undefined;

  const processes = () => (server?.pid ? [server.pid, ...childrenOf(server.pid)] : []);
  const signal = (name: NodeJS.Signals) => {
    for (const pid of processes()) kill(pid, name);
  };
  const end = async (how: NodeJS.Signals): Promise<void> => {
    if (!server || server.exitCode !== null || server.signalCode !== null) return;
    const all = processes();
    const exited = once(server, "exit");
    if (how === "SIGKILL") signal(how);
    else server.kill(how);
    for (const pid of all) kill(pid, "SIGCONT");
    await exited;
    // It does not start again before the last of them is gone.
    await until("every process of PostgreSQL has ended", () => !all.some(isAlive));
  };
  const emergency = () => {
    signal("SIGKILL");
    rmSync(folder, { recursive: true, force: true });
  };
  process.once("exit", emergency);
  onTeardown(async () => {
    await end("SIGINT");
    process.off("exit", emergency);
    await rm(folder, { recursive: true, force: true });
  });

  /** As the database's owner, on a connection of its own. Of several statements the last one's rows. */
  const query = async <R extends object>(sql: string, values?: unknown[]): Promise<R[]> => {
    const client = new pg.Client({ host: "127.0.0.1", port, user: "postgres", database: "postgres" });
    client.on("error", () => {}); // Its query rejects all the same.
    try {
      await client.connect();
      const results = [await client.query(sql, values)].flat();
      return results.at(-1)?.rows ?? [];
    } finally {
      await client.end();
    }
  };

  const launch = async (): Promise<void> => {
    const settings = {
      port,
      listen_addresses: "127.0.0.1",
      unix_socket_directories: "",
      fsync: "off",
      synchronous_commit: "off",
      full_page_writes: "off",
      shared_buffers: "16MB",
      max_connections: "50",
    };
    const args = Object.entries(settings).flatMap(([name, value]) => ["-c", `${name}=${value}`]);
    const launched = spawn(program("postgres"), ["-D", data, ...args], {
      ...owner,
      cwd: folder,
      stdio: ["ignore", "ignore", "pipe"],
    });
    server = launched;
    launched.stderr.on("data", (text) => appendFile(log, text).catch(() => {}));
    let failure: Error | undefined;
    launched.once("error", (error) => {
      failure = error;
    });
    for (const until = Date.now() + READY_MS; Date.now() < until; await sleep(20)) {
      const answers = await query("select 1").catch(() => undefined);
      if (answers) return;
      if (failure || launched.exitCode !== null) break;
    }
    launched.kill("SIGQUIT");
    const written = existsSync(log) ? await readFile(log, "utf8") : "";
    throw new Error(`PostgreSQL did not start on port ${port}: ${failure?.message ?? written}`);
  };

  const initdb = ["-D", data, "-U", "postgres", "-E", "UTF8", "--locale=C", "--auth=trust", "--no-sync"];
  execFileSync(program("initdb"), initdb, { ...owner, cwd: folder, stdio: "pipe" });
  await launch();
  await query(TABLES);

  return {
    /** For `DATABASE_URL`: a role that may log in, and become `authenticated`. */
    url: `postgresql://node@127.0.0.1:${port}/postgres`,
    port,
    query,
    /** These users are members of these projects, which are made; nobody else is of any. */
    async members(projectsOf: Record<string, string[]>): Promise<void> {
      const rows = Object.entries(projectsOf).flatMap(([user, ids]) => ids.map((id) => ({ user, id })));
      await query(
        `with given as (select * from json_to_recordset($1) as g("user" text, id text)),
           gone as (delete from members),
           made as (insert into projects select distinct id from given on conflict do nothing)
         insert into members select id, "user" from given`,
        [JSON.stringify(rows)],
      );
    },
    /** It hangs: connections stay and new ones are taken, and nothing answers. */
    pause: () => signal("SIGSTOP"),
    resume: () => signal("SIGCONT"),
    /** As an operator stops it: every client is told. */
    stop: () => end("SIGINT"),
    kill: () => end("SIGKILL"),
    /** On the same port, with the same data. */
    async restart(): Promise<void> {
      await end("SIGINT");
      await launch();
    },
  };
}

/** Where Debian keeps it, the newest first; other systems have it among their programs. */
function program(name: string): string {
  const versions = existsSync(DEBIAN) ? readdirSync(DEBIAN).sort((a, b) => Number(b) - Number(a)) : [];
  const folders = [
    ...(process.env.AGENTWIRE_POSTGRES ? [process.env.AGENTWIRE_POSTGRES] : []),
    ...versions.map((version) => join(DEBIAN, version, "bin")),
    "/usr/bin",
    "/usr/local/bin",
    "/opt/homebrew/bin",
  ];
  const found = folders.map((folder) => join(folder, name)).find((file) => existsSync(file));
  if (!found) throw new Error("no PostgreSQL here: npm test installs one, or tells why it cannot");
  return found;
}

/** One server for all tests of the surrounding `describe`. */
export function sharedPostgres(): () => PostgresServer {
  let started: { value: PostgresServer; undo(): Promise<void> } | undefined;
  before("start PostgreSQL", async () => {
    started = await keepBeyondTest(startPostgres);
  });
  after("stop PostgreSQL", () => started?.undo());
  return () => {
    if (!started) throw new Error("PostgreSQL is started before the tests, not while they are declared");
    return started.value;
  };
}
