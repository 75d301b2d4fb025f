import { readFileSync } from "node:fs";
import type { SequenceId } from "@agentwire/shared";
import { expect } from "chai";
import { readConfig } from "../../server/src/config.js";
import { sharedCluster, startCluster } from "../harness/cluster.js";
import { needs } from "../harness/needs.js";
import { type Nginx, startNginx, TRANSPORTS } from "../harness/nginx.js";
import { keepBeyondTest, onTeardown } from "../harness/teardown.js";
import { JWT_SECRET, token } from "../harness/token.js";
import { Viewer, type ViewerOptions } from "../harness/viewer.js";
import { until } from "../harness/wait.js";

const ORIGIN = "https://app.example.com";
const CHANGE = { agent_id: "a1", project_id: "p1", new_status: "working" as const };

const come = (nginx: Nginx, options: ViewerOptions = {}): Viewer => {
  const viewer = new Viewer(nginx.url, options);
  onTeardown(() => void viewer.socket.disconnect());
  return viewer;
};
/** The last node that it was on. */
const nodeOf = (viewer: Viewer) => viewer.payloads("READY").at(-1)?.instance_id;
const handshake = (nginx: Nginx, who: string) =>
  fetch(`${nginx.url}/socket.io/?EIO=4&transport=polling&token=${who}`, { headers: { Origin: ORIGIN } });

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

    const own = token("anna", ["p1"]);
    const opened = await (await handshake(nginx(), own)).text();
    const { sid } = JSON.parse(opened.slice(1)) as { sid: string };
    const address = `${nginx().url}/socket.io/?EIO=4&transport=polling&token=${own}&sid=${sid}`;
    const large = await fetch(address, { method: "POST", body: "x".repeat(1.5 * 1024 * 1024) });
    expect(large.status).to.equal(413);
    expect(await large.text()).not.to.include("nginx");
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
