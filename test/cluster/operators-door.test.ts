import { expect } from "chai";
import type { Redis } from "ioredis";
import { sharedCluster } from "../harness/cluster.js";
import { needs } from "../harness/needs.js";
import { NodeProcess } from "../harness/node.js";
import { CREDENTIALS, connectTo, OPERATOR, pollInto, RIGHT, refusalOf } from "../harness/operator.js";
import { freePort } from "../harness/ports.js";
import { onTeardown } from "../harness/teardown.js";
import { JWT_SECRET, token } from "../harness/token.js";
import { until } from "../harness/wait.js";

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

/** As if this much time had passed since the oldest `count` attempts, or since all. */
async function age(redis: Redis, ms: number, count?: number): Promise<void> {
  for (const key of await redis.keys("ws:ratelimit:admin:*")) {
    const names = await redis.zrangebyscore(key, "-inf", "+inf");
    for (const name of names.slice(0, count)) await redis.zincrby(key, -ms, name);
  }
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

  it("[D27] lets in with the password, tells of every node, and of every node's sockets", async () => {
    const viewers = await Promise.all(
      [1, 2, 2, 3].map(async (on) => (await cluster().viewer({ on })).joined()),
    );
    const ids = viewers.map(({ socket }) => socket.id);
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
    viewers[3]?.socket.disconnect();
    await until("the one that left is listed no more", () => {
      const latest = JSON.stringify(operator.events("all_sockets").at(-1));
      return ids.map((id) => latest.includes(String(id))).join() === "true,true,true,false";
    });
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
  };
  for (const [what, auth] of Object.entries(bad)) {
    it(`[D13] refuses ${what}, without a password check`, async () => {
      expect(await refusalOf(admin(), { auth })).to.deep.equal(invalid);
      expect(await pollInto(admin(), "/admin", { auth })).to.deep.equal({ type: "4", data: invalid });
      expect(await cluster().client().keys("ws:ratelimit:admin:*")).to.deep.equal([]);
    });
  }

  it("[D13] a CONNECT whose auth is no plain object ends that connection only", async () => {
    const prototype = '{"__proto__":{"username":"operator","password":"x"},"constructor":{"password":[]}}';
    for (const auth of ["[]", '"text"', "1", "null", "{", prototype]) {
      const { verdict, closed } = await connectTo(admin(), "/admin", { auth });
      expect([auth, verdict?.type === "0"]).to.deep.equal([auth, false]);
      expect([auth, closed || verdict?.type === "4"]).to.deep.equal([auth, true]);
    }
  });

  it("[D27] a wrong password, a wrong name and names of the prototype are invalid credentials", async () => {
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

  it("[D27] checks 5 passwords a minute from one address, over all nodes, and lets sessions in meanwhile", async () => {
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

  it("[D27] checks 20 passwords a minute in all, and bad sessions count like passwords", async () => {
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

  it("[D27] one connection may ask again after a refusal, not twice at once", async () => {
    const patient = await connectTo(admin(), "/admin", { auth: WRONG });
    expect(patient.verdict?.type).to.equal("4");
    patient.ask(RIGHT);
    await until("it is let in", () => patient.verdicts().at(-1)?.type === "0");
    const hasty = await connectTo(admin(), "/none");
    hasty.ws.send(`40/admin,${RIGHT}`);
    hasty.ws.send(`40/admin,${RIGHT}`);
    await until("it is closed", () => hasty.closed);
  });

  it("[D27] a session is worth nothing with another password, and a node of another password is another door", async () => {
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

  it("[D27] operators' and viewers' namespaces are joined through their own listener only", async () => {
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
      const query = { token: token("user-10", ["p1"]) };
      const { verdict } = await connectTo(admin(), namespace, { query, auth: JSON.stringify(query) });
      expect([namespace, verdict?.type]).to.deep.equal([namespace, "4"]);
      const polled = await pollInto(admin(), namespace, { query, auth: JSON.stringify(query) });
      expect([namespace, polled?.type]).to.deep.equal([namespace, "4"]);
    }
    expect(await redis.exists("ws:connections:user:user-10")).to.equal(0);
    expect(await redis.hgetall("ws:audience:since:user-10")).to.deep.equal({});
  });

  it("[D27] the log holds nothing of the operators; their own stream is bounded", async () => {
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

  it("[D27] by default operators only look", async () => {
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
