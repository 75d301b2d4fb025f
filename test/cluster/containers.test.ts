import { execFileSync, spawn, spawnSync } from "node:child_process";
import { once } from "node:events";
import { mkdtempSync, readdirSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { expect } from "chai";
import { nodesOf, readCompose } from "../harness/compose.js";
import { commandOf, layOutImage, readDockerfile, valuesOf } from "../harness/image.js";
import { needs } from "../harness/needs.js";
import { startNginx } from "../harness/nginx.js";
import { NodeProcess } from "../harness/node.js";
import { freePort } from "../harness/ports.js";
import { isAlive } from "../harness/processes.js";
import { startRedis } from "../harness/redis.js";
import { onTeardown } from "../harness/teardown.js";
import { JWT_SECRET, SERVICE_KEY } from "../harness/token.js";
import { Viewer } from "../harness/viewer.js";
import { until } from "../harness/wait.js";

const CONF = fileURLToPath(new URL("../../nginx.conf", import.meta.url));
const compose = readCompose({ JWT_SECRET, INTERNAL_SERVICE_KEY: SERVICE_KEY });
const { redis: redisService, nginx: nginxService, worker: workerService } = compose.services;

/** A Redis with the arguments that it has in docker-compose.yml. */
async function startItsRedis() {
  const [program, ...args] = redisService?.command ?? [];
  expect(program).to.equal("redis-server");
  const redis = await startRedis({ args });
  onTeardown(() => redis.stop());
  return redis;
}

/** nginx.conf as the command of its service makes it. */
function nginxConf(): string {
  const folder = mkdtempSync(join(tmpdir(), "agentwire-conf-"));
  onTeardown(() => rmSync(folder, { recursive: true }));
  const made = join(folder, "nginx.conf");
  const [shell = "", option = "", script = ""] = nginxService?.command ?? [];
  const here = script
    .replace("/etc/agentwire/nginx.conf", CONF)
    .replace("/etc/nginx/nginx.conf", made)
    .replace("exec nginx -g 'daemon off;'", "echo started");
  expect(execFileSync(shell, [option, here], { encoding: "utf8" })).to.equal("started\n");
  return readFileSync(made, "utf8");
}

/** The worker's command, in the image's folder. */
function startItsWorker(folder: string, redisUrl: string): void {
  const [shell = "", ...args] = workerService?.command ?? [];
  const env = { PATH: process.env.PATH, ...workerService?.environment, REDIS_URL: redisUrl };
  // A group of its own: what it runs ends with it.
  const child = spawn(shell, args, { cwd: folder, env, stdio: "ignore", detached: true });
  const exited = once(child, "exit");
  onTeardown(async () => {
    const group = -(child.pid as number);
    process.kill(group, "SIGKILL");
    await exited;
    await until("its processes are gone", () => {
      try {
        return !process.kill(group, 0);
      } catch {
        return true;
      }
    });
  });
}

describe("containers, without containers", () => {
  needs("REDIS");

  it("[D17] the image has every file that a node reads, and no other source; it is healthy while it answers", async () => {
    const folder = layOutImage();
    const files = readdirSync(folder, { recursive: true, encoding: "utf8" }).filter(
      (name) => !name.startsWith("node_modules"),
    );
    expect(files.filter((name) => /(?<!\.d)\.ts$/.test(name))).to.deep.equal([]);

    const redis = await startItsRedis();
    const [command = ""] = valuesOf("CMD", readDockerfile().at(-1) ?? []);
    expect(commandOf(command)).to.deep.equal(["node", "server/dist/main.js"]);
    const admin = { ADMIN_USERNAME: "operator", ADMIN_PASSWORD: "a-password-of-the-tests" };
    const settings = { REDIS_URL: redis.url, JWT_SECRET, INTERNAL_SERVICE_KEY: SERVICE_KEY, ...admin };
    const node = new NodeProcess("node-1", await freePort(), settings, folder);
    node.start();
    onTeardown(() => node.kill());
    await node.ready();

    const pages = [
      "",
      ...readdirSync(join(folder, "client/dashboard")).map((name) => `assets/dashboard/${name}`),
    ];
    const modules = ["assets/client/index.js", "assets/shared/index.js", "assets/socket.io-client.js"];
    for (const path of [...pages, ...modules])
      expect((await fetch(`${node.url}/${path}`)).status, path).to.equal(200);
    for (const path of ["admin/", "admin/own-address.js", "admin/icons.css", "metrics"])
      expect((await fetch(`${node.adminUrl}/${path}`)).status, path).to.equal(200);

    const checks = [
      commandOf(valuesOf("HEALTHCHECK", readDockerfile().at(-1) ?? [])[0] ?? ""),
      (nodesOf(compose)[0]?.[1].healthcheck?.test ?? [])
        .slice(1)
        .map((word) => word.replace("8080", String(node.port))),
    ];
    const check = ([, ...args]: string[]) =>
      spawnSync(process.execPath, args, { env: { PORT: String(node.port) } }).status;
    expect(checks.map(check)).to.deep.equal([0, 0]);
    redis.pause();
    await until("it is not ready", async () => (await node.readyz()) === 503);
    expect(checks.map(check)).to.deep.equal([0, 1]);
    redis.resume();
    await node.ready();

    const { pid } = node;
    await node.stop();
    expect({ exitCode: node.exitCode, alive: isAlive(pid), stderr: node.stderr }).to.deep.equal({
      exitCode: 0,
      alive: false,
      stderr: "",
    });
    expect(checks.map(check)).to.deep.equal([1, 1]);
  });

  describe("behind nginx", () => {
    needs("NGINX");

    it("[D3] what docker-compose.yml starts: viewers on every node see what the worker does, and a node may go", async () => {
      const folder = layOutImage();
      const redis = await startItsRedis();
      const [, appendonly] = (await redis.client().config("GET", "appendonly")) as string[];
      const [, policy] = (await redis.client().config("GET", "maxmemory-policy")) as string[];
      expect([appendonly, policy]).to.deep.equal(["yes", "noeviction"]);

      const nodes: NodeProcess[] = [];
      for (const [name, { environment = {} }] of nodesOf(compose)) {
        const here = { REDIS_URL: redis.url, TRUSTED_PROXIES: "127.0.0.1" };
        expect(environment).to.include.keys(...Object.keys(here));
        const settings = { ...environment, ...here, WS_DRAIN_TIMEOUT: "2" };
        const node = new NodeProcess(name, await freePort(), settings, folder);
        node.start();
        onTeardown(() => node.kill());
        nodes.push(node);
      }
      await Promise.all(nodes.map((node) => node.ready()));
      const nginx = await startNginx(
        nodes.map(({ port }) => port),
        nginxConf(),
      );

      const viewers = Array.from({ length: 9 }, (_, n) => {
        // Addresses of their own: one may come ten times in a minute.
        const extraHeaders = { "X-Forwarded-For": `192.0.2.${n}` };
        const socket = { transports: [n % 2 ? "polling" : "websocket"], extraHeaders };
        const viewer = new Viewer(nginx.url, { user: `user-${n}`, projects: ["demo"], socket });
        onTeardown(() => void viewer.socket.disconnect());
        return viewer;
      });
      await Promise.all(viewers.map((viewer) => viewer.joined()));
      const nodeOf = (viewer: Viewer) => viewer.payloads("READY").at(-1)?.instance_id;
      expect(new Set(viewers.map(nodeOf)).size).to.be.above(1);

      startItsWorker(folder, redis.url);
      const statuses = (viewer: Viewer, agent: string) =>
        viewer
          .payloads("AGENT_STATUS_CHANGED")
          .filter(({ agent_id }) => agent_id === agent)
          .map(({ new_status }) => new_status);
      for (const viewer of viewers) {
        await viewer.sees("what the surveyor does", (one) => statuses(one, "surveyor").includes("completed"));
        await viewer.sees("how far the packer is", (one) => one.payloads("PROGRESS_UPDATE").length > 1);
      }

      const first = nodes[0] as NodeProcess;
      await first.stop();
      expect(first.exitCode).to.equal(0);
      for (const viewer of viewers) {
        await viewer.sees("another node", (one) => nodeOf(one) !== first.id);
        await viewer.sees("that the packer is done", (one) => statuses(one, "packer").includes("completed"));
        const times = viewer.disconnects > 0 ? 2 : 1;
        await viewer.joined(times);
      }
    });
  });
});
