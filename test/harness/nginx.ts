import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import { existsSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { readFile, rm } from "node:fs/promises";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { freePort } from "./ports.js";
import { folderOf, unprivileged } from "./processes.js";
import { onTeardown } from "./teardown.js";
import { until } from "./wait.js";

const CONF = fileURLToPath(new URL("../../nginx.conf", import.meta.url));
const PROGRAMS = ["/usr/sbin/nginx", "/usr/bin/nginx", "/usr/local/bin/nginx", "/opt/homebrew/bin/nginx"];
const TEMPORARY = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"];

/** How a stock client comes, and what that is called in titles. */
export const TRANSPORTS: [string, string[]][] = [
  ["websocket", ["websocket"]],
  ["polling", ["polling"]],
  ["polling, then websocket", ["polling", "websocket"]],
];

export type Nginx = Awaited<ReturnType<typeof startNginx>>;

/** Replaces what must be there. */
function replace(text: string, pattern: RegExp, by: string): string {
  if (!pattern.test(text)) throw new Error(`nginx.conf has no ${pattern}`);
  return text.replace(pattern, by);
}

const PLACE = /\b\d+\.\d+\.\d+\.\d+:\d+\b/g;

/** Its nodes' addresses become these ports; what names a node that is not there is left out. */
function withNodes(conf: string, ports: number[]): string {
  const places = [...new Set(conf.match(PLACE))];
  if (ports.length === 0 || ports.length > places.length)
    throw new Error(`nginx.conf has ${places.length} nodes, not ${ports.length}`);
  const away = places.flatMap((place, n) => (n < ports.length ? [] : [place, ` node-${n + 1};`]));
  return conf
    .split("\n")
    .filter((line) => !away.some((words) => line.includes(words)))
    .join("\n")
    .replace(PLACE, (place) => `127.0.0.1:${ports[places.indexOf(place)]}`);
}

/**
 * A real nginx with the repository's nginx.conf: only ports and folders differ. It is gone after the test.
 *
 * @param ports of node-1, node-2 and node-3, as many as there are: a session is known by the name of its node
 * @param text what has become of nginx.conf elsewhere
 */
export async function startNginx(ports: number[], text = readFileSync(CONF, "utf8")) {
  const owner = unprivileged("nobody");
  const folder = folderOf("agentwire-nginx-", owner);
  const port = await freePort();
  const url = `http://127.0.0.1:${port}`;

  let conf = withNodes(text, ports);
  conf = replace(conf, /^( +listen) 80;$/m, `$1 127.0.0.1:${port};`);
  conf = replace(conf, /\/var\/log\/nginx\//g, `${folder}/`);
  const paths = TEMPORARY.map((name) => `${name}_temp_path ${folder}/${name};`).join(" ");
  conf = replace(conf, /^http \{$/m, `http { ${paths}`);
  const file = join(folder, "nginx.conf");
  writeFileSync(file, conf);

  const globals = `daemon off; pid ${folder}/nginx.pid;`;
  let server: ChildProcess | undefined = spawn(program(), ["-p", folder, "-c", file, "-g", globals], {
    ...owner,
    cwd: folder,
    stdio: ["ignore", "ignore", "pipe"],
  });
  let stderr = "";
  server.stderr?.on("data", (text) => {
    stderr += text;
  });
  server.once("error", (error) => {
    stderr += error.message;
    server = undefined;
  });
  const emergency = () => {
    server?.kill("SIGTERM"); // Of the master; it ends its workers.
    rmSync(folder, { recursive: true, force: true });
  };
  process.once("exit", emergency);
  onTeardown(async () => {
    if (server && server.exitCode === null && server.signalCode === null) {
      const exited = once(server, "exit");
      server.kill("SIGTERM");
      await exited;
    }
    process.off("exit", emergency);
    await rm(folder, { recursive: true, force: true });
  });
  await until("nginx listens", async () => {
    if (!server || server.exitCode !== null) throw new Error(`nginx did not start: ${stderr}`);
    return fetch(`${url}/healthz`).then(
      () => true,
      () => false,
    );
  });

  return {
    url,
    /** Where it has its temporary files. */
    folder,
    /** All that it wrote about requests and errors. */
    async written(): Promise<string> {
      const logs = ["access.log", "error.log"].map((name) => readFile(join(folder, name), "utf8"));
      return [...(await Promise.all(logs)), stderr].join("\n");
    },
  };
}

function program(): string {
  const found = [process.env.AGENTWIRE_NGINX, ...PROGRAMS].find((file) => file && existsSync(file));
  if (!found) throw new Error("no nginx here: npm test installs one, or tells why it cannot");
  return found;
}
