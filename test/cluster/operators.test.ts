import { connect } from "node:net";
import bcrypt from "bcryptjs";
import { expect } from "chai";
import type { Redis } from "ioredis";
import { type Cluster, ONE_ADDRESS, sharedCluster, startCluster } from "../harness/cluster.js";
import { needs } from "../harness/needs.js";
import { NodeProcess } from "../harness/node.js";
import { type ConnectOptions, CREDENTIALS, connectTo, OPERATOR, pollInto } from "../harness/operator.js";
import { freePort } from "../harness/ports.js";
import { onTeardown } from "../harness/teardown.js";
import { JWT_SECRET, token } from "../harness/token.js";
import { until } from "../harness/wait.js";

const RIGHT = JSON.stringify(CREDENTIALS);
const WRONG = JSON.stringify({ ...CREDENTIALS, password: "wrong" });

const invalid = {
  message: "invalid credentials",
  data: { code: "UNAUTHORIZED", message: "invalid credentials", retry: "new_token" },
};
const limited = {
  message: "too many requests",
  data: { code: "RATE_LIMITED", message: "too many requests", retry: "later" },
};
const unknown = {
  message: "no such namespace",
  data: { code: "NAMESPACE_UNKNOWN", message: "no such namespace", retry: "never" },
};
/** `instrument()` says no more than this. */
const refusedByPassword = { message: "invalid credentials" };

const refusalOf = async (url: string, options: ConnectOptions): Promise<unknown> => {
  const { verdict } = await connectTo(url, "/admin", options);
  return verdict?.type === "4" ? verdict.data : "let in";
};
const bodyOf = async (answer: Response) => ({ status: answer.status, body: await answer.json() });
const notFound = { error: { code: "NOT_FOUND", message: "no such resource", retry: "never" } };

/** As if this much time had passed since the oldest `count` attempts, or since all. */
async function age(redis: Redis, ms: number, count?: number): Promise<void> {
  for (const key of await redis.keys("ws:ratelimit:admin:*")) {
    const names = await redis.zrangebyscore(key, "-inf", "+inf");
    for (const name of names.slice(0, count)) await redis.zincrby(key, -ms, name);
  }
}

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

describe("the operators' door", () => {
  needs("REDIS");
  const cluster = sharedCluster({ nodes: 3, settings: OPERATOR });
  const admin = (n = 1) => cluster().node(n).adminUrl;

  beforeEach("nobody has tried anything", async () => {
    const redis = cluster().client();
    for (const key of await redis.keys("ws:ratelimit:admin:*")) await redis.del(key);
  });
  afterEach("every node lives, and complained of nothing", () => {
    for (const { alive, stderr, log } of cluster().nodes) {
      expect(alive).to.equal(true);
      expect(stderr).to.equal("");
      expect(log.filter(({ level }) => Number(level) >= 50)).to.deep.equal([]);
    }
  });

  it("[D12] lets in with the password, tells of every node, and of every node's sockets", async () => {
    const viewers = [1, 2, 2, 3].map(async (on) => (await cluster().viewer({ on })).joined());
    const ids = (await Promise.all(viewers)).map(({ socket }) => socket.id);
    const operator = await connectTo(admin(), "/admin", { auth: RIGHT });
    expect(operator.verdict?.type).to.equal("0");
    await until("all nodes are heard", () => {
      const heard = operator
        .events("server_stats")
        .map(([stats]) => (stats as { serverId: string }).serverId);
      return new Set(heard).size === 3;
    });
    const [sockets] = await until("the sockets are listed", () => operator.events("all_sockets").at(-1));
    const listed = sockets as { id: string; data: { user_id: string; instance_id: string } }[];
    expect(listed.map(({ id }) => id)).to.have.members(ids);
    expect(listed.map(({ data }) => data.instance_id)).to.have.members([
      "node-1",
      "node-2",
      "node-2",
      "node-3",
    ]);
    expect(listed.map(({ data }) => data.user_id)).to.deep.equal(Array(4).fill("user-1"));
  });

  const bad: Record<string, string> = {
    nothing: "{}",
    "a name alone": '{"username":"operator"}',
    "null as password": '{"username":"operator","password":null}',
    "a number as password": '{"username":"operator","password":1}',
    "true as password": '{"username":"operator","password":true}',
    "an object as password": '{"username":"operator","password":{}}',
    "an array as password": `{"username":"operator","password":[${JSON.stringify(OPERATOR.ADMIN_PASSWORD)}]}`,
    "an empty password": '{"username":"operator","password":""}',
    "a very long password": JSON.stringify({ ...CREDENTIALS, password: "x".repeat(257) }),
    "an object as name": `{"username":{},"password":${JSON.stringify(OPERATOR.ADMIN_PASSWORD)}}`,
    "an object as session": `{"sessionId":{},"username":"operator"}`,
    "an array as session, and the right password": JSON.stringify({ sessionId: ["x"], ...CREDENTIALS }),
    "a very long session": JSON.stringify({ sessionId: "x".repeat(65) }),
    "names of the prototype":
      '{"__proto__":{"username":"operator","password":"x"},"constructor":{"password":[]}}',
  };
  for (const [what, auth] of Object.entries(bad)) {
    it(`[D13] refuses ${what}, without a password check`, async () => {
      expect(await refusalOf(admin(), { auth })).to.deep.equal(invalid);
      expect(await pollInto(admin(), "/admin", { auth })).to.deep.equal({ type: "4", data: invalid });
      expect(await cluster().client().keys("ws:ratelimit:admin:*")).to.deep.equal([]);
    });
  }

  it("[D13] a CONNECT whose auth is no object ends that connection only", async () => {
    for (const auth of ["[]", '"text"', "1", "null", "{"]) {
      const { verdict, closed } = await connectTo(admin(), "/admin", { auth });
      expect([auth, verdict?.type === "0"]).to.deep.equal([auth, false]);
      expect([auth, closed || verdict?.type === "4"]).to.deep.equal([auth, true]);
    }
  });

  it("[D12] a wrong password, a wrong name and names of the prototype are invalid credentials", async () => {
    const password = OPERATOR.ADMIN_PASSWORD;
    for (const auth of [
      WRONG,
      JSON.stringify({ username: "Operator", password }),
      JSON.stringify({ username: "__proto__", password }),
      JSON.stringify({ username: "operator", password: "constructor" }),
    ]) {
      expect(await refusalOf(admin(), { auth })).to.deep.equal(refusedByPassword);
    }
  });

  it("[D12] checks 5 passwords a minute from one address, over all nodes, and lets sessions in meanwhile", async () => {
    const redis = cluster().client();
    const operator = await connectTo(admin(1), "/admin", { auth: RIGHT });
    const [[sessionId] = []] = operator.events("session");
    const session = JSON.stringify({ sessionId });
    await until(
      "the session stands in Redis",
      async () => (await redis.keys("ws:admin:session:*")).length > 0,
    );
    expect((await redis.keys("ws:admin:session:*")).join()).not.to.contain(sessionId);

    const tries = await Promise.all(
      Array.from({ length: 30 }, (_, n) => refusalOf(admin(1 + (n % 3)), { auth: WRONG })),
    );
    expect(tries.filter((one) => (one as Error).message === "invalid credentials")).to.have.length(4);
    expect(tries.filter((one) => (one as Error).message === "too many requests")).to.have.length(26);
    for (const n of [1, 2, 3]) {
      expect(await refusalOf(admin(n), { auth: RIGHT })).to.deep.equal(limited);
      expect((await connectTo(admin(n), "/admin", { auth: session })).verdict?.type).to.equal("0");
    }

    // The window slides: as each attempt becomes a minute old, one more is free.
    await age(redis, 30_000);
    await age(redis, 30_000, 2);
    expect(await refusalOf(admin(2), { auth: WRONG })).to.deep.equal(refusedByPassword);
    expect(await refusalOf(admin(3), { auth: RIGHT })).to.equal("let in");
    expect(await refusalOf(admin(1), { auth: RIGHT })).to.deep.equal(limited);
    expect(await redis.ttl("ws:ratelimit:admin:127.0.0.1")).to.be.within(1, 60);
  });

  it("[D12] checks 20 passwords a minute in all, and bad sessions count like passwords", async () => {
    const from = (n: number) => ({ from: `127.0.0.${n}` });
    const bad = JSON.stringify({ sessionId: "0123456789abcdef" });
    for (let n = 0; n < 20; n++) {
      const options = { ...from(2 + Math.floor(n / 5)), auth: n % 2 ? bad : WRONG };
      expect(await refusalOf(admin(1 + (n % 3)), options)).to.have.property("message", "invalid credentials");
    }
    for (const auth of [RIGHT, bad]) {
      expect(await refusalOf(admin(), { ...from(9), auth })).to.deep.equal(limited);
    }
    await age(cluster().client(), 60_000, 1);
    expect(await refusalOf(admin(), { ...from(9), auth: RIGHT })).to.equal("let in");
  });

  it("[D12] one connection may ask again after a refusal, not twice at once", async () => {
    const patient = await connectTo(admin(), "/admin", { auth: WRONG });
    expect(patient.verdict?.type).to.equal("4");
    patient.ask(RIGHT);
    await until("it is let in", () => patient.verdicts().at(-1)?.type === "0");
    const hasty = await connectTo(admin(), "/none");
    hasty.ws.send(`40/admin,${RIGHT}`);
    hasty.ws.send(`40/admin,${RIGHT}`);
    await until("it is closed", () => hasty.closed);
  });

  it("[D12] a session is worth nothing with another password, and a node of another password is another door", async () => {
    const { redis } = cluster();
    const operator = await connectTo(admin(), "/admin", { auth: RIGHT });
    const [[sessionId] = []] = operator.events("session");
    const auth = JSON.stringify({ sessionId });
    const node = new NodeProcess("node-changed", await freePort(), {
      REDIS_URL: redis.url,
      JWT_SECRET,
      ...OPERATOR,
      ADMIN_PASSWORD: "another one",
    });
    node.start();
    onTeardown(() => node.kill());
    await node.ready();
    await until(
      "the session is good elsewhere",
      async () => (await refusalOf(admin(3), { auth })) === "let in",
    );
    expect(await refusalOf(node.adminUrl, { auth })).to.deep.equal(invalid);
  });

  it("[D12] operators' and viewers' namespaces are joined through their own listener only", async () => {
    const redis = cluster().client();
    const { url } = cluster().node(1);
    const query = { token: token("user-9", ["p1"]) };
    const nobody = await connectTo(url, "/nobody", { query, auth: RIGHT });
    expect(nobody.verdict).to.deep.equal({ type: "4", data: unknown });
    expect(await pollInto(url, "/nobody", { query, auth: RIGHT })).to.deep.equal({
      type: "4",
      data: unknown,
    });
    expect((await connectTo(url, "/admin", { query, auth: RIGHT })).verdict).to.deep.equal(nobody.verdict);
    expect(await pollInto(url, "/admin", { query, auth: RIGHT })).to.deep.equal(nobody.verdict);
    expect(await redis.keys("ws:ratelimit:admin:*")).to.deep.equal([]);

    for (const namespace of ["/ws/agents", "/", "/ws/terminal/t1", "/nobody"]) {
      const { verdict } = await connectTo(admin(), namespace, { query, auth: JSON.stringify(query) });
      expect([namespace, verdict?.type]).to.deep.equal([namespace, "4"]);
      const polled = await pollInto(admin(), namespace, { query, auth: JSON.stringify(query) });
      expect([namespace, polled?.type]).to.deep.equal([namespace, "4"]);
    }
    expect(await redis.exists("ws:connections:user:user-9")).to.equal(0);
    expect(await redis.hgetall("ws:audience:since:user-9")).to.deep.equal({});
  });

  it("[D12] the public listener has no admin UI and no metrics", async () => {
    const { url } = cluster().node(1);
    for (const path of ["/admin", "/admin/", "/admin/index.html", "/metrics"])
      expect([path, (await fetch(url + path)).status]).to.deep.equal([path, 404]);
  });

  it("[D12] serves the page from this machine, for no frame and no other host", async () => {
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

  it("[D12] pages of another origin cannot try passwords", async () => {
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

  it("[D12] the log holds nothing of the operators; their own stream is bounded", async () => {
    const redis = cluster().client();
    await connectTo(admin(2), "/admin", { auth: RIGHT });
    await until("each node has said something", async () => {
      const entries = JSON.stringify(await redis.xrevrange("ws:admin:events", "+", "-", "COUNT", 20));
      return [1, 2, 3].every((n) => entries.includes(`node-${n}`));
    });
    const entries = JSON.stringify(await redis.xrange("ws:events", "-", "+"));
    expect(entries).to.not.contain("admin").and.not.contain("server_stats").and.not.contain("all_sockets");
    expect(await redis.xlen("ws:admin:events")).to.be.below(2000);
  });

  it("[D12] by default operators only look", async () => {
    const viewer = await (await cluster().viewer({ on: 2 })).joined();
    const seen = viewer.received.length;
    const before = await cluster().client().xlen("ws:events");
    const operator = await connectTo(admin(1), "/admin", { auth: RIGHT });
    await until("the page is told what it may do", () => operator.events("config").length === 2);
    const supportedFeatures = ["AGGREGATED_EVENTS", "ALL_EVENTS"];
    expect(operator.events("config").at(-1)).to.deep.equal([{ supportedFeatures }]);
    for (const room of [undefined, viewer.socket.id]) {
      operator.emit("emit", "/ws/agents", room, "HELLO", 1);
      operator.emit("join", "/ws/agents", "project:p2", room);
      operator.emit("leave", "/ws/agents", "project:p1", room);
      operator.emit("_disconnect", "/ws/agents", true, room);
    }
    operator.ask("{}");
    await until("all of that was read", () => operator.closed);
    expect(viewer.socket.connected).to.equal(true);
    expect(viewer.received.length).to.equal(seen);
    expect(await cluster().client().xlen("ws:events")).to.equal(before);
  });
});

describe("the operators' door, set otherwise", () => {
  needs("REDIS");

  it("[D12] without a name and a password there is no admin UI, and the page's address says why", async () => {
    const cluster = await startCluster({ nodes: 1 });
    const { adminUrl, url } = cluster.node(1);
    const why = "ADMIN_USERNAME and ADMIN_PASSWORD are not set: there is no admin UI";
    const body = { error: { ...notFound.error, message: why } };
    for (const path of ["/admin", "/admin/", "/admin/js/app.js"])
      expect(await bodyOf(await fetch(adminUrl + path))).to.deep.equal({ status: 404, body });
    const polling = await fetch(`${adminUrl}/socket.io/?EIO=4&transport=polling`);
    expect(await bodyOf(polling)).to.deep.equal({ status: 404, body: notFound });
    const query = { token: token("user-1", ["p1"]) };
    expect((await connectTo(url, "/admin", { query, auth: RIGHT })).verdict?.data).to.deep.equal(unknown);
    expect(await cluster.client().exists("ws:admin:events")).to.equal(0);
  });

  it("[D12] with ADMIN_READONLY=false operators may disconnect viewers of any node, and do nothing else", async () => {
    // The password as a bcrypt hash is the same door.
    const ADMIN_PASSWORD = await bcrypt.hash(OPERATOR.ADMIN_PASSWORD, 4);
    const settings = { ...OPERATOR, ADMIN_PASSWORD, ADMIN_READONLY: "false" };
    const cluster = await startCluster({ nodes: 2, settings });
    const [one, other] = await Promise.all(
      [1, 2].map(async (on) => (await cluster.viewer({ on, socket: { reconnection: false } })).joined()),
    );
    if (!one || !other) throw new Error("two viewers are expected");
    const operator = await connectTo(cluster.node(1).adminUrl, "/admin", { auth: RIGHT });
    expect(operator.verdict?.type).to.equal("0");
    await until("the page is told what it may do", () => operator.events("config").length === 2);
    const supportedFeatures = ["DISCONNECT", "AGGREGATED_EVENTS", "ALL_EVENTS"];
    expect(operator.events("config").at(-1)).to.deep.equal([{ supportedFeatures }]);
    const heard = [one, other].map(({ received }) => received.length);
    for (const event of ["emit", "join", "leave", "_disconnect"])
      for (const args of [
        [],
        [null],
        [5, 5, 5],
        ["/new"],
        ["/ws/agents"],
        ["/ws/agents", "connect", {}],
        ["/ws/agents", true, ""],
      ])
        operator.emit(event, ...args);
    operator.emit("_disconnect", "/ws/agents", false, other.socket.id);
    await until("the other node's viewer is gone", () => !other.socket.connected);
    expect(one.socket.connected).to.equal(true);
    expect([one, other].map(({ received }) => received.length)).to.deep.equal(heard);
    operator.emit("_disconnect", "/ws/agents", true, "project:p1");
    await until("everybody in the room is gone", () => !one.socket.connected);
    for (const { alive, stderr } of cluster.nodes) expect([alive, stderr]).to.deep.equal([true, ""]);
  });

  it("[D12] nobody is let in while Redis is away; who is in stays, and hears of all nodes when it is back", async () => {
    const cluster = await startCluster({ nodes: 2, settings: OPERATOR });
    const { adminUrl } = cluster.node(1);
    const operator = await connectTo(adminUrl, "/admin", { auth: RIGHT });
    const [[sessionId] = []] = operator.events("session");
    await cluster.redis.kill();
    const unavailable = async () => {
      const data = await refusalOf(adminUrl, { auth: RIGHT });
      return (data as { data?: { code: string } }).data?.code === "UNAVAILABLE";
    };
    await until("passwords are not looked at", unavailable);
    expect(await refusalOf(adminUrl, { auth: JSON.stringify({ sessionId }) })).to.have.nested.property(
      "data.code",
      "UNAVAILABLE",
    );
    const heard = operator.events("server_stats").length;
    await until("this node is still heard", () => operator.events("server_stats").length > heard);
    await cluster.redis.restart({ empty: true });
    const since = operator.packets.length;
    await until("the other node is heard again", () =>
      JSON.stringify(operator.packets.slice(since)).includes('"serverId":"node-2"'),
    );
    await until(
      "operators are let in again",
      async () => (await refusalOf(adminUrl, { auth: RIGHT })) === "let in",
    );
    for (const { alive, stderr } of cluster.nodes) expect([alive, stderr]).to.deep.equal([true, ""]);
  });

  it("[D12] a stop does not wait for an operator that reads nothing", async () => {
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
