import { connect } from "node:net";
import { expect } from "chai";
import { type Cluster, ONE_ADDRESS, sharedCluster, startCluster } from "../harness/cluster.js";
import { needs } from "../harness/needs.js";
import { NodeProcess } from "../harness/node.js";
import { connectTo, OPERATOR, RIGHT } from "../harness/operator.js";
import { freePort } from "../harness/ports.js";
import { onTeardown } from "../harness/teardown.js";
import { JWT_SECRET, token } from "../harness/token.js";
import { until } from "../harness/wait.js";

const bodyOf = async (answer: Response) => ({ status: answer.status, body: await answer.json() });
const notFound = { error: { code: "NOT_FOUND", message: "no such resource", retry: "never" } };

/** A status line, headers and body, as text: for what `fetch` does not send. */
async function raw(url: string, request: string): Promise<string> {
  const socket = connect(Number(new URL(url).port), "127.0.0.1");
  onTeardown(() => {
    socket.destroy();
  });
  let text = "";
  let ended = false;
  socket.on("data", (data) => {
    text += data;
  });
  socket.on("close", () => {
    ended = true;
  });
  socket.write(request);
  await until("the whole answer", () => ended);
  return text;
}

describe("the operators' listener", () => {
  needs("REDIS");
  const cluster = sharedCluster({ nodes: 1, settings: OPERATOR });
  const admin = () => cluster().node(1).adminUrl;

  it("[D27] the public listener has no admin UI and no metrics", async () => {
    const { url } = cluster().node(1);
    for (const path of ["/admin", "/admin/", "/admin/index.html", "/metrics"])
      expect([path, (await fetch(url + path)).status]).to.deep.equal([path, 404]);
  });

  it("[D27] serves the page from this machine, for no frame and no other host", async () => {
    const answer = await fetch(`${admin()}/admin`);
    expect([answer.status, answer.redirected]).to.deep.equal([200, true]);
    const page = await answer.text();
    expect(page)
      .to.contain("Socket.IO Admin UI")
      .and.not.match(/(?:https?:)?\/\/[a-z]/i);
    for (const [, file = ""] of page.matchAll(/(?:href|src)="([^"]+)"/g))
      expect([file, (await fetch(`${admin()}/admin/${file}`)).status]).to.deep.equal([file, 200]);
    const { headers } = answer;
    expect(headers.get("content-security-policy"))
      .to.match(/^default-src 'self';/)
      .and.not.contain("http");
    expect(headers.get("x-frame-options")).to.equal("DENY");
    expect(headers.get("x-content-type-options")).to.equal("nosniff");
    expect(headers.get("cache-control")).to.equal("no-store");
  });

  it("[D13] answers what it does not know with a code", async () => {
    for (const path of [
      "/",
      "/admins",
      "/admin/none.js",
      "/admin/%zz",
      "/admin/..%2f..%2fpackage.json",
      "/healthz",
      "/socket.io",
    ])
      expect([path, await bodyOf(await fetch(admin() + path))]).to.deep.equal([
        path,
        { status: 404, body: notFound },
      ]);
    expect((await fetch(`${admin()}/socket.io/?EIO=4&transport=none`)).status).to.equal(400);
    expect(await raw(admin(), "GET //[ HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")).to.match(
      /^HTTP\/1.1 40[04] /,
    );
    expect(await raw(admin(), "no request at all\r\n\r\n")).to.match(/^HTTP\/1.1 400 /);
    const upgrade = "Host: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n";
    for (const path of ["/", "/metrics", "/admin", "//["])
      expect(await raw(admin(), `GET ${path} HTTP/1.1\r\n${upgrade}`)).to.match(
        /^HTTP\/1.1 404 .*NOT_FOUND/s,
      );
  });

  it("[D27] pages of another origin cannot try passwords", async () => {
    const headers = { Origin: "https://elsewhere.example" };
    const answer = await fetch(`${admin()}/socket.io/?EIO=4&transport=polling`, { headers });
    expect((await bodyOf(answer)).body.error.code).to.equal("ORIGIN_FORBIDDEN");
    expect(answer.headers.get("access-control-allow-origin")).to.equal(null);
    const failed = await connectTo(admin(), "/admin", { headers, auth: RIGHT }).then(
      () => "opened",
      (error: Error) => error.message,
    );
    expect(failed).to.equal("Unexpected server response: 403");
  });

  it("[D27] closes a connection that does not log in", async () => {
    const operator = await connectTo(admin(), "/admin", { auth: RIGHT });
    const began = Date.now();
    const stranger = await connectTo(admin(), "/admin");
    expect(stranger.verdict?.type).to.equal("4");
    await until("it is closed", () => stranger.closed);
    expect(Date.now() - began).to.be.above(9000);
    expect([operator.verdict?.type, operator.closed]).to.deep.equal(["0", false]);
  });

  it("[D27] a stop does not wait for an operator that reads nothing", async () => {
    const cluster = await startCluster({ nodes: 1, settings: OPERATOR });
    const { adminUrl } = cluster.node(1);
    const operator = await connectTo(adminUrl, "/admin", { auth: RIGHT });
    operator.ws.pause();
    const half = connect(Number(new URL(adminUrl).port), "127.0.0.1");
    half.on("error", () => {});
    onTeardown(() => {
      half.destroy();
    });
    half.write("GET /admin HTTP/1.1\r\nHost:");
    const began = Date.now();
    await cluster.stopCleanly();
    expect(Date.now() - began).to.be.below(5000);
    expect(cluster.node(1).log.filter(({ level }) => Number(level) >= 50)).to.deep.equal([]);
  });

  it("[D27] without a name and a password there is no admin UI, and the page's address says why", async () => {
    const cluster = await startCluster({ nodes: 1 });
    const { adminUrl, url } = cluster.node(1);
    const why = "ADMIN_USERNAME and ADMIN_PASSWORD are not set: there is no admin UI";
    const body = { error: { ...notFound.error, message: why } };
    for (const path of ["/admin", "/admin/", "/admin/js/app.js"])
      expect(await bodyOf(await fetch(adminUrl + path))).to.deep.equal({ status: 404, body });
    const metrics = await fetch(`${adminUrl}/metrics`);
    expect([metrics.status, (await metrics.text()).includes("agentwire_connections")]).to.deep.equal([
      200,
      true,
    ]);
    const polling = await fetch(`${adminUrl}/socket.io/?EIO=4&transport=polling`);
    expect(await bodyOf(polling)).to.deep.equal({ status: 404, body: notFound });
    const query = { token: token("user-1", ["p1"]) };
    const { verdict } = await connectTo(url, "/admin", { query, auth: RIGHT });
    expect(verdict?.data).to.have.nested.property("data.code", "NAMESPACE_UNKNOWN");
    expect(await cluster.client().exists("ws:admin:events")).to.equal(0);
  });
});

describe("the operators' port", () => {
  needs("REDIS");

  /** A node beside the cluster's. */
  async function another({ redis }: Cluster, settings: NodeJS.ProcessEnv): Promise<NodeProcess> {
    const node = new NodeProcess("node-other", await freePort(), {
      REDIS_URL: redis.url,
      JWT_SECRET,
      ...ONE_ADDRESS,
      ...settings,
    });
    onTeardown(() => node.kill());
    node.start();
    return node;
  }

  it("[D18] that was set and is in use ends the node, with one line that names it", async () => {
    const cluster = await startCluster({ nodes: 1 });
    const taken = new URL(cluster.node(1).adminUrl).port;
    const node = await another(cluster, { ADMIN_PORT: taken });
    await until("the node has ended", () => !node.alive);
    expect(node.exitCode).to.equal(1);
    expect(node.stderr).to.equal(`agentwire: ADMIN_PORT: cannot listen on 127.0.0.1:${taken}: EADDRINUSE\n`);
    expect(node.log.some(({ msg }) => msg === "listening")).to.equal(false);
  });

  it("[D18] that was not set gives way to another node's, and says so", async () => {
    const cluster = await startCluster({ nodes: 1 });
    const [first, second] = await Promise.all([
      another(cluster, { ADMIN_PORT: "" }),
      another(cluster, { ADMIN_PORT: "" }),
    ]);
    await Promise.all([first.ready(), second.ready()]);
    expect(first.adminUrl).not.to.equal(second.adminUrl);
    for (const { adminUrl } of [first, second])
      expect((await fetch(`${adminUrl}/admin`)).status).to.equal(404);
    const said = [first, second]
      .flatMap(({ log }) => log)
      .filter(({ msg }) => msg?.startsWith("ADMIN_PORT is not set"));
    expect(said.length).to.be.within(1, 2);
    expect(said[0]?.level).to.equal(40);
  });
});
