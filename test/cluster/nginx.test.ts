import { readFileSync } from "node:fs";
import { createServer, type IncomingMessage, request } from "node:http";
import type { AddressInfo } from "node:net";
import type { SequenceId } from "@agentwire/shared";
import { expect } from "chai";
import { readConfig } from "../../server/src/config.js";
import { sharedCluster, startCluster } from "../harness/cluster.js";
import { needs } from "../harness/needs.js";
import { type Nginx, startNginx } from "../harness/nginx.js";
import { NodeProcess } from "../harness/node.js";
import { freePort } from "../harness/ports.js";
import { keepBeyondTest, onTeardown } from "../harness/teardown.js";
import { JWT_SECRET, SERVICE_KEY, token } from "../harness/token.js";
import { Viewer, type ViewerOptions } from "../harness/viewer.js";
import { until } from "../harness/wait.js";

const ORIGIN = "https://app.example.com";
const CHANGE = { agent_id: "a1", project_id: "p1", new_status: "working" as const };
const TRANSPORTS: [string, string[]][] = [
  ["websocket", ["websocket"]],
  ["polling", ["polling"]],
  ["polling, then websocket", ["polling", "websocket"]],
];

const come = (nginx: Nginx, options: ViewerOptions = {}): Viewer => {
  const viewer = new Viewer(nginx.url, options);
  onTeardown(() => void viewer.socket.disconnect());
  return viewer;
};
/** The last node that it was on. */
const nodeOf = (viewer: Viewer) => viewer.payloads("READY").at(-1)?.instance_id;
const handshake = (nginx: Nginx, who: string) =>
  fetch(`${nginx.url}/socket.io/?EIO=4&transport=polling&token=${who}`, { headers: { Origin: ORIGIN } });

/** A program in a node's place that answers 503 and shows what nginx asked it. */
async function openRecorder() {
  const asked: { req: IncomingMessage; port: number | undefined; size: number }[] = [];
  const server = createServer(async (req, res) => {
    const body = Buffer.concat(await req.toArray());
    asked.push({ req, port: req.socket.localPort, size: body.length });
    res.writeHead(503).end();
  });
  server.on("upgrade", (req, socket) => {
    asked.push({ req, port: req.socket.localPort, size: 0 });
    socket.end("HTTP/1.1 503 Service Unavailable\r\nContent-Length: 0\r\nConnection: close\r\n\r\n");
  });
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  onTeardown(() => {
    server.closeAllConnections();
    server.close();
  });
  return { asked, port: (server.address() as AddressInfo).port };
}

describe("nodes behind nginx", () => {
  needs("NGINX");
  needs("REDIS");
  const settings = { WS_HEARTBEAT_INTERVAL: "1", CORS_ORIGINS: ORIGIN };
  const cluster = sharedCluster({ nodes: 3, settings });
  let front: { value: Nginx; undo(): Promise<void> } | undefined;
  before("start nginx", async () => {
    front = await keepBeyondTest(() => startNginx(cluster().nodes.map(({ port }) => port)));
  });
  after("stop nginx", () => front?.undo());
  const nginx = (): Nginx => front?.value as Nginx;

  for (const [what, transports] of TRANSPORTS) {
    it(`[D3] stock clients over ${what}: each stays on its node and hears every event`, async () => {
      const viewers = Array.from({ length: 9 }, (_, n) =>
        come(nginx(), { user: `user-${n}`, socket: { transports } }),
      );
      await Promise.all(viewers.map((viewer) => viewer.joined()));
      expect(new Set(viewers.map(nodeOf)).size).to.be.above(1);
      if (transports.length > 1) {
        for (const viewer of viewers) {
          const upgraded = () => viewer.socket.io.engine.transport.name === "websocket";
          await viewer.sees("its upgrade to WebSocket", upgraded);
        }
      }
      const worker = cluster().worker();
      const ids: SequenceId[] = [];
      let pings = 0;
      viewers[0]?.socket.io.on("ping", () => pings++);
      for (let n = 1; n <= 3; n++) {
        for (let k = 0; k < 10; k++) ids.push((await worker.agentStatus(CHANGE)).sequence_id);
        // Over pings too, which are requests of their own on polling.
        await until("a ping", () => pings >= n);
      }
      for (const viewer of viewers) {
        await viewer.has(ids);
        expect(viewer.raw.map(({ sequence_id }) => sequence_id)).to.deep.equal(ids);
        expect({ lost: viewer.disconnects, errors: viewer.errors }).to.deep.equal({ lost: 0, errors: [] });
      }
    });

    it(`[D12] a token of 20 KB passes over ${what}, in the query and as a header`, async () => {
      const long = token("anna", ["p1"], { claims: { more: "x".repeat(15_000) } });
      expect(long.length).to.be.above(20_000);
      const given: ViewerOptions[] = [
        { query: { token: long } },
        { socket: { query: {}, extraHeaders: { Authorization: `Bearer ${long}` } } },
      ];
      for (const { query = {}, socket } of given) {
        const viewer = come(nginx(), { query, socket: { ...socket, transports } });
        await viewer.joined();
        const { sequence_id } = await cluster().worker().agentStatus(CHANGE);
        await viewer.has([sequence_id]);
      }
    });
  }

  it("[D3] over WebSocket the viewers of one token are spread over the nodes", async () => {
    const query = { token: token("anna", ["p1"]) };
    const viewers = Array.from({ length: 12 }, () => come(nginx(), { query }));
    await Promise.all(viewers.map((viewer) => viewer.joined()));
    expect(new Set(viewers.map(nodeOf)).size).to.be.above(1);
  });

  it("[D12] a refusal comes through as the node gave it, and a page can read it", async () => {
    const asked = await handshake(nginx(), "no.token");
    expect(asked.status).to.equal(401);
    expect(asked.headers.get("access-control-allow-origin")).to.equal(ORIGIN);
    expect((await asked.json()).error.code).to.equal("UNAUTHORIZED");
    const large = await fetch(`${nginx().url}/api/v1/internal/ws/publish`, {
      method: "POST",
      headers: { "Content-Type": "application/json", "X-Internal-Service-Key": SERVICE_KEY },
      body: JSON.stringify({ ...CHANGE, message: "x".repeat(1.5 * 1024 * 1024) }),
    });
    expect(large.status).to.equal(413);
    expect((await large.json()).error.code).to.equal("PAYLOAD_TOO_LARGE");
  });

  it("[D7] viewers of a node that is killed come back on another one, and miss nothing", async () => {
    const own = await startCluster({ nodes: 3, settings });
    const through = await startNginx(own.nodes.map(({ port }) => port));
    const viewers = Array.from({ length: 6 }, (_, n) =>
      come(through, { user: `user-${n}`, socket: { transports: n % 2 ? ["polling"] : ["websocket"] } }),
    );
    await Promise.all(viewers.map((viewer) => viewer.joined()));
    const worker = own.worker();
    const ids = [(await worker.agentStatus(CHANGE)).sequence_id];
    for (const viewer of viewers) await viewer.has(ids);
    const dead = own.nodes.find(({ id }) => id === nodeOf(viewers[0] as Viewer));
    await dead?.kill();
    for (let n = 0; n < 50; n++) ids.push((await worker.agentStatus(CHANGE)).sequence_id);
    for (const viewer of viewers) {
      await viewer.has(ids);
      expect(viewer.log).to.deep.equal(ids);
      expect(nodeOf(viewer)).not.to.equal(dead?.id);
    }
    // Newcomers whose node it would be are no slower.
    for (let n = 0; n < 6; n++)
      expect((await handshake(through, token(`new-${n}`, ["p1"]))).status).to.equal(200);
    const written = await through.written();
    expect(written).to.include("/socket.io/");
    expect(written).not.to.include("eyJ");
  });

  it("[D12] where one node takes nobody in, another one takes a WebSocket; where none does, its answer comes", async () => {
    const away = new NodeProcess("away", await freePort(), {
      REDIS_URL: `redis://127.0.0.1:${await freePort()}`,
      JWT_SECRET,
      CORS_ORIGINS: ORIGIN,
    });
    away.start();
    onTeardown(() => away.kill());
    await until("the node without Redis answers", async () => (await away.readyz()) === 503);
    const through = await startNginx([away.port, cluster().node(1).port]);
    for (let n = 0; n < 8; n++) {
      const viewer = await come(through, { user: `user-${n}` }).joined();
      expect(viewer.errors).to.deep.equal([]);
      expect(nodeOf(viewer)).to.equal("node-1");
    }
    // The next request of a polling client would not come to the other node: its token chose the first.
    for (let n = 0; n < 8; n++) {
      const { status } = await handshake(through, token(`user-${n}`, ["p1"]));
      expect([200, 503]).to.include(status);
    }
    const alone = await startNginx([away.port]);
    const refused = await handshake(alone, token("anna", ["p1"]));
    expect(refused.status).to.equal(503);
    expect(refused.headers.get("retry-after")).to.match(/^\d+$/);
    expect(refused.headers.get("access-control-allow-origin")).to.equal(ORIGIN);
    expect((await refused.json()).error.code).to.equal("UNAVAILABLE");
  });

  it("[D12] a node learns who asks; only a handshake over WebSocket goes to another one after a 503", async () => {
    const nodes = [await openRecorder(), await openRecorder()];
    const through = await startNginx(nodes.map(({ port }) => port));
    const ask = async (path: string, headers: Record<string, string> = {}, method = "GET") => {
      for (const { asked } of nodes) asked.length = 0;
      const status = await new Promise((resolve, reject) => {
        const asked = request(through.url + path, { method, headers, agent: false });
        asked.on("error", reject).on("response", (answer) => {
          answer.resume();
          resolve(answer.statusCode);
        });
        asked.end(method === "POST" ? "{}" : undefined);
      });
      expect(status).to.equal(503);
      return nodes.flatMap(({ asked }) => asked);
    };
    const webSocket = {
      Connection: "Upgrade",
      Upgrade: "websocket",
      "Sec-WebSocket-Version": "13",
      "Sec-WebSocket-Key": Buffer.alloc(16).toString("base64"),
    };
    const seen = {
      host: new URL(through.url).host,
      "x-forwarded-for": "192.0.2.7, 127.0.0.1",
      "x-forwarded-proto": "http",
    };

    const forwarded = { "X-Forwarded-For": "192.0.2.7" };
    // Again and again: a node that answers 503 stays one that is asked.
    for (let n = 0; n < 5; n++) {
      const path = "/socket.io/?EIO=4&transport=websocket&token=t";
      const twice = await ask(path, { ...forwarded, ...webSocket });
      expect(twice).to.have.length(2);
      for (const { req } of twice) {
        expect(req.headers).to.include({ ...seen, upgrade: "websocket", connection: "upgrade" });
      }
    }
    const polls = await ask("/socket.io/?EIO=4&transport=polling&token=t", { ...forwarded, Upgrade: "h2c" });
    expect(polls).to.have.length(1);
    expect(polls[0]?.req.headers).to.include(seen).and.not.have.property("connection", "upgrade");
    // What belongs to a connection goes to its node, or nowhere; and always to the same one.
    const ports = new Set<number | undefined>();
    for (let n = 0; n < 10; n++) {
      for (const headers of [{}, webSocket]) {
        const [one, ...more] = await ask("/socket.io/?EIO=4&transport=websocket&sid=s&token=t", headers);
        expect(more).to.deep.equal([]);
        ports.add(one?.port);
      }
    }
    expect(ports.size).to.equal(1);
    const publishes = await ask("/api/v1/internal/ws/publish", {}, "POST");
    expect(publishes.map(({ size }) => size)).to.deep.equal([2]);
  });

  it("[contract] nginx.conf waits longer than a node does for a silent connection", () => {
    const conf = readFileSync(new URL("../../nginx.conf", import.meta.url), "utf8");
    const node = readConfig({ JWT_SECRET });
    const longest = node.WS_HEARTBEAT_INTERVAL * node.WS_HEARTBEAT_MAX_MISSED + node.WS_HEARTBEAT_TIMEOUT;
    for (const name of ["proxy_read_timeout", "proxy_send_timeout", "send_timeout"]) {
      expect(Number(new RegExp(`^ +${name} (\\d+)s;`, "m").exec(conf)?.[1]), name).to.be.above(longest);
    }
  });
});
