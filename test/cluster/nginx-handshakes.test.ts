import { randomBytes } from "node:crypto";
import type { SequenceId } from "@agentwire/shared";
import { expect } from "chai";
import { sharedCluster, startCluster } from "../harness/cluster.js";
import { knock } from "../harness/knock.js";
import { needs } from "../harness/needs.js";
import { type Nginx, startNginx, TRANSPORTS } from "../harness/nginx.js";
import { NodeProcess } from "../harness/node.js";
import { freePort } from "../harness/ports.js";
import { type Asked, openRecorder } from "../harness/recorder.js";
import { onTeardown } from "../harness/teardown.js";
import { JWT_SECRET, token } from "../harness/token.js";
import { Viewer, type ViewerOptions } from "../harness/viewer.js";
import { until } from "../harness/wait.js";

const ORIGIN = "https://app.example.com";
const CHANGE = { agent_id: "a1", project_id: "p1", new_status: "working" as const };
const UPGRADE = {
  Connection: "keep-alive, Upgrade",
  Upgrade: "websocket",
  "Sec-WebSocket-Version": "13",
  "Sec-WebSocket-Key": Buffer.alloc(16).toString("base64"),
};

const come = (nginx: Nginx, options: ViewerOptions = {}): Viewer => {
  const viewer = new Viewer(nginx.url, options);
  onTeardown(() => void viewer.socket.disconnect());
  return viewer;
};
const nodeOf = (viewer: Viewer) => viewer.payloads("READY").at(-1)?.instance_id;
const address = (nginx: Nginx, transport: string, rest: string) =>
  `${nginx.url}/socket.io/?EIO=4&transport=${transport}&${rest}`;
const tokenOf = (n: number) => token(`user-${n}`, ["p1"]);

describe("handshakes through nginx", () => {
  needs("NGINX");
  needs("REDIS");
  const settings = { WS_HEARTBEAT_INTERVAL: "1", CORS_ORIGINS: ORIGIN };
  const cluster = sharedCluster({ nodes: 2, settings });
  const ports = () => cluster().nodes.map(({ port }) => port);

  /** A node that never becomes ready: it has no Redis. */
  async function startAway(): Promise<NodeProcess> {
    const nobody = `redis://127.0.0.1:${await freePort()}`;
    const away = new NodeProcess("away", await freePort(), {
      REDIS_URL: nobody,
      JWT_SECRET,
      CORS_ORIGINS: ORIGIN,
    });
    away.start();
    onTeardown(() => away.kill());
    await until("the node without Redis answers", async () => (await away.readyz()) === 503);
    return away;
  }

  /** Comes again and again until one was passed on; what nginx wrote about it says so. */
  async function untilPassedOn(nginx: Nginx, transport: string, attempts: string): Promise<void> {
    let n = 0;
    await until(`a handshake over ${transport} that two nodes were asked for`, async () => {
      const { status } = await knock(address(nginx, transport, `token=${tokenOf(n++)}`));
      expect(status).to.equal(transport === "polling" ? 200 : 101);
      return (await nginx.written()).includes(` ${attempts}\n`);
    });
  }

  for (const [what, transports] of TRANSPORTS) {
    it(`[D12][D3] over ${what}: where one node takes nobody in another one does, and the session stays there`, async () => {
      const away = await startAway();
      const nginx = await startNginx([...ports(), away.port]);
      const first = transports[0] as string;
      await untilPassedOn(nginx, first, first === "polling" ? "503, 200" : "503, 101");

      const viewers = Array.from({ length: 9 }, (_, n) =>
        come(nginx, { user: `user-${n}`, socket: { transports } }),
      );
      await Promise.all(viewers.map((viewer) => viewer.joined()));
      for (const viewer of viewers) {
        const last = transports.at(-1);
        await viewer.sees(`it is on ${last}`, () => viewer.socket.io.engine.transport.name === last);
      }
      const ids: SequenceId[] = [];
      for (let n = 0; n < 5; n++) ids.push((await cluster().worker().agentStatus(CHANGE)).sequence_id);
      for (const viewer of viewers) {
        await viewer.has(ids);
        expect({ lost: viewer.disconnects, errors: viewer.errors }).to.deep.equal({ lost: 0, errors: [] });
      }
    });

    it(`[D12] over ${what}: where one node cannot be reached another one takes the viewer`, async () => {
      const closed = await freePort();
      for (const places of [
        [closed, cluster().node(2).port],
        [cluster().node(1).port, closed, closed],
      ]) {
        const nginx = await startNginx(places);
        for (let n = 0; n < 6; n++) {
          const viewer = await come(nginx, { user: `user-${n}`, socket: { transports } }).joined();
          expect({ lost: viewer.disconnects, errors: viewer.errors }).to.deep.equal({ lost: 0, errors: [] });
        }
        const first = transports[0] as string;
        await untilPassedOn(nginx, first, first === "polling" ? "502, 200" : "502, 101");
      }
    });
  }

  it("[D12][D3] live sessions stay on a node that takes nobody in any more", async () => {
    // Another cluster, so that its Redis can hang: its node is node-1 too, and stands first.
    const other = await startCluster({ nodes: 1, settings });
    const nginx = await startNginx([other.node(1).port, cluster().node(2).port]);
    const viewers: Viewer[] = [];
    await until("three polling viewers are on it", async () => {
      const viewer = come(nginx, { user: `user-${viewers.length}`, socket: { transports: ["polling"] } });
      viewers.push(await viewer.joined());
      return viewers.filter((one) => nodeOf(one) === "node-1").length >= 3;
    });
    other.redis.pause();
    const first = other.node(1);
    await until("it takes nobody in", async () => (await first.readyz()) === 503);
    const pings = viewers.map(() => 0);
    for (const [n, viewer] of viewers.entries()) {
      viewer.socket.io.on("ping", () => {
        pings[n] = (pings[n] ?? 0) + 1;
      });
    }
    for (let n = 0; n < 12; n++) {
      const transport = n % 2 ? "polling" : "websocket";
      const { status } = await knock(address(nginx, transport, `token=${tokenOf(n)}`));
      expect(status).to.equal(transport === "polling" ? 200 : 101);
      const newcomer = come(nginx, { user: `new-${n}`, socket: { transports: [transport] } });
      expect(nodeOf(await newcomer.joined())).to.equal("node-2");
    }
    await until("pings and their answers, each a request", () => pings.every((count) => count >= 3));
    other.redis.resume();
    await first.ready();
    const { sequence_id } = await other.worker().agentStatus(CHANGE);
    for (const viewer of viewers) {
      if (nodeOf(viewer) === "node-1") await viewer.has([sequence_id]);
      expect({ lost: viewer.disconnects, errors: viewer.errors }).to.deep.equal({ lost: 0, errors: [] });
    }
  });

  it("[D12] where no node takes anybody in, the answer comes through, and a page can read it", async () => {
    const nginx = await startNginx([(await startAway()).port, (await startAway()).port]);
    const refused = await fetch(address(nginx, "polling", `token=${tokenOf(1)}`), {
      headers: { Origin: ORIGIN },
    });
    expect(refused.status).to.equal(503);
    expect(refused.headers.get("retry-after")).to.match(/^\d+$/);
    expect(refused.headers.get("access-control-allow-origin")).to.equal(ORIGIN);
    expect((await refused.json()).error.code).to.equal("UNAVAILABLE");
    expect((await fetch(`${nginx.url}/readyz`)).status).to.equal(503);
    expect((await knock(address(nginx, "websocket", `token=${tokenOf(1)}`))).status).to.equal(503);
  });

  it("[D3] nodes with other names than in nginx.conf keep their polling sessions too", async () => {
    const named = (id: string, port: number) =>
      new NodeProcess(id, port, { ...settings, REDIS_URL: cluster().redis.url, JWT_SECRET });
    const nodes = [named("berlin", await freePort()), named("node-1.paris", await freePort())];
    for (const node of nodes) {
      node.start();
      onTeardown(() => node.kill());
    }
    await Promise.all(nodes.map((node) => node.ready()));
    const nginx = await startNginx(nodes.map(({ port }) => port));
    const viewers = Array.from({ length: 8 }, (_, n) =>
      come(nginx, {
        user: `user-${n}`,
        socket: { transports: ["polling", n % 2 ? "websocket" : "polling"] },
      }),
    );
    await Promise.all(viewers.map((viewer) => viewer.joined()));
    const { sequence_id } = await cluster().worker().agentStatus(CHANGE);
    for (const viewer of viewers) {
      await viewer.has([sequence_id]);
      expect({ lost: viewer.disconnects, errors: viewer.errors }).to.deep.equal({ lost: 0, errors: [] });
    }
  });

  it("[D12] a node learns who asks; every handshake goes on after a 503, a request of a session does not", async () => {
    const asked: Asked[] = [];
    const nodes = [await openRecorder(asked), await openRecorder(asked), await openRecorder(asked)];
    const nginx = await startNginx(nodes.map(({ port }) => port));
    const ask = async (rest: string, headers: Record<string, string> = {}, method = "GET") => {
      asked.length = 0;
      const url = address(nginx, headers.Upgrade ? "websocket" : "polling", rest);
      expect((await knock(url, headers, method)).status).to.equal(503);
      return [...asked];
    };
    const seen = {
      host: new URL(nginx.url).host,
      "x-forwarded-for": "192.0.2.7, 127.0.0.1",
      "x-forwarded-proto": "http",
    };
    const forwarded = { "X-Forwarded-For": "192.0.2.7" };
    // Again and again: a node that answers 503 stays one that is asked.
    for (let n = 0; n < 5; n++) {
      const upgrades = await ask("token=t", { ...forwarded, ...UPGRADE });
      expect(new Set(upgrades.map(({ port }) => port)).size).to.equal(3);
      for (const { req } of upgrades) {
        expect(req.headers).to.include({ ...seen, upgrade: "websocket", connection: "upgrade" });
      }
      const polls = await ask("token=t", {
        ...forwarded,
        Connection: "Upgrade",
        Upgrade: "h2c",
      });
      expect(new Set(polls.map(({ port }) => port)).size).to.equal(3);
      for (const { req } of polls) {
        expect(req.headers).to.include(seen).and.not.have.property("upgrade");
        expect(req.headers.connection).not.to.equal("upgrade");
      }
    }
    // What belongs to a session goes to its node, or nowhere.
    for (const [n, { port }] of nodes.entries()) {
      const sid = `sid=${randomBytes(15).toString("base64url")}.node-${n + 1}`;
      for (const [headers, method] of [
        [{}, "GET"],
        [{}, "POST"],
        [UPGRADE, "GET"],
      ] as const) {
        const all = await ask(`${sid}&token=t`, headers, method);
        expect(all.map((one) => one.port)).to.deep.equal([port]);
      }
    }
    // Of a node that nginx.conf does not know: always to the same one first, as the handshake did.
    const firsts = new Set<number | undefined>();
    for (let n = 0; n < 10; n++) {
      for (const rest of ["token=t", "token=t&sid=s", "token=t&sid=x.node-9", "token=t&sid=x.node-1.y"])
        firsts.add((await ask(rest, forwarded, rest === "token=t" || n % 2 ? "GET" : "POST"))[0]?.port);
      firsts.add((await ask("token=t&sid=x.node-11", UPGRADE))[0]?.port);
    }
    expect(firsts.size).to.equal(1);
  });
});
