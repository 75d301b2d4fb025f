import { randomBytes } from "node:crypto";
import { mkdtempSync, rmSync } from "node:fs";
import { createRequire } from "node:module";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { DEMO_PROJECT, startDemo } from "./demo.mjs";
import { explain } from "./failure.mjs";
import { Node } from "./nodes.mjs";
import { freePortsFrom } from "./ports.mjs";
import { prepare } from "./prepare.mjs";
import { Processes } from "./processes.mjs";
import { openRedis } from "./redis.mjs";
import { onStop } from "./signals.mjs";

const root = fileURLToPath(new URL("..", import.meta.url));
const folder = mkdtempSync(join(tmpdir(), "agentwire-"));
const processes = new Processes();
/** What to stop, in this order. @type {(() => Promise<unknown>)[]} */
const stops = [];
let stopping = false;

/** @param {number} exitCode */
async function stop(exitCode) {
  if (stopping) return;
  stopping = true;
  console.log("\nStopping …");
  for (const end of stops) await end();
  process.exit(exitCode);
}

/** @param {string} secret @param {NodeJS.ProcessEnv} env */
function viewerToken(secret, env) {
  // Found where the server has it: the scripts themselves depend on nothing.
  const { sign } = createRequire(join(root, "server/package.json"))("jsonwebtoken");
  return sign({ role: "authenticated", app_metadata: { project_ids: [DEMO_PROJECT] } }, secret, {
    algorithm: "HS256",
    subject: "demo-viewer",
    audience: env.JWT_AUDIENCE || "authenticated",
    ...(env.JWT_ISSUER && { issuer: env.JWT_ISSUER }),
    expiresIn: "12h",
  });
}

async function start() {
  await prepare(processes, { root, projects: ["shared", "emitter", "server", "client"] });
  const redis = await openRedis(processes, folder);
  stops.unshift(redis.stop);
  console.log(redis.about);
  redis.ended?.then(() => {
    if (!stopping) console.error("The private Redis ended.");
    return stop(1);
  });

  const ports = await freePortsFrom(8080, 2);
  const adminPorts = await freePortsFrom(9090, 2);
  const origins = ports.map((port) => `http://localhost:${port}`);
  // The demo's viewer has a token of the demo's own secret: other sources of users are left out.
  const { SUPABASE_URL: _, JWT_JWKS_URL: __, DATABASE_URL: ___, ...others } = process.env;
  // So are other sorts of Redis: it is the one that stands below.
  const inherited = Object.fromEntries(Object.entries(others).filter(([name]) => !name.startsWith("REDIS_")));
  const secret = process.env.JWT_SECRET || randomBytes(32).toString("hex");
  const env = {
    ...inherited,
    HOST: process.env.HOST || "127.0.0.1",
    REDIS_URL: redis.url,
    JWT_SECRET: secret,
    INTERNAL_SERVICE_KEY: process.env.INTERNAL_SERVICE_KEY || randomBytes(32).toString("hex"),
    CORS_ORIGINS: ports.flatMap((port) => [`http://localhost:${port}`, `http://127.0.0.1:${port}`]).join(","),
    LOG_LEVEL: process.env.LOG_LEVEL || "warn",
    // Everybody who tries it comes from one address, and with one token.
    WS_CONNECTIONS_PER_IP_PER_MINUTE: process.env.WS_CONNECTIONS_PER_IP_PER_MINUTE || "200",
    WS_MAX_CONNECTIONS_PER_USER: process.env.WS_MAX_CONNECTIONS_PER_USER || "50",
    WS_DRAIN_TIMEOUT: process.env.WS_DRAIN_TIMEOUT || "2",
  };
  const nodes = ports.map((port, index) => {
    const name = `node-${index + 1}`;
    const own = { PORT: String(port), ADMIN_PORT: String(adminPorts[index]), INSTANCE_ID: name };
    return new Node(processes, { name, root, env: { ...env, ...own } });
  });
  stops.unshift(() => Promise.all(nodes.map((node) => node.stop())));
  await Promise.all(nodes.map((node) => node.start()));
  const demo = startDemo(processes, { root, folder, env });
  stops.unshift(demo.stop);
  demo.ended.catch(fail);

  console.log(`
Open ${origins[0]}/#token=${viewerToken(secret, env)}&nodes=${origins.join(",")}
Kill a node and watch: kill -9 ${nodes[0]?.pid}
Metrics: ${adminPorts.map((port) => `http://127.0.0.1:${port}/metrics`).join(" ")}
Ctrl-C stops everything.`);
}

/** @param {unknown} error */
function fail(error) {
  if (!stopping) console.error(explain(error));
  return stop(1);
}

process.on("exit", () => rmSync(folder, { recursive: true, force: true }));
onStop(() => stop(0));
start().catch(fail);
