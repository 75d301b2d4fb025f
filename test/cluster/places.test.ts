import { AGENTS_NAMESPACE } from "@agentwire/shared";
import { expect } from "chai";
import { io, type Socket } from "socket.io-client";
import { type Cluster, startCluster } from "../harness/cluster.js";
import { onTeardown } from "../harness/teardown.js";
import { token } from "../harness/token.js";
import { until } from "../harness/wait.js";

const TENTH_OF_A_SECOND = 100;

/** A polling handshake by hand: its status, code and how long to wait. It opens a connection that says nothing. */
async function knock({ node }: Cluster, user: string, on: number) {
  const query = new URLSearchParams({ EIO: "4", transport: "polling", token: token(user, ["p1"]) });
  const answer = await fetch(`${node(on).url}/socket.io/?${query}`);
  const text = await answer.text();
  const body = answer.status === 200 ? undefined : (JSON.parse(text) as { error: { code: string } });
  return {
    status: answer.status,
    code: body?.error.code,
    retryAfter: Number(answer.headers.get("Retry-After")),
    /** Closes the connection, as a client does. */
    async leave() {
      const { sid } = JSON.parse(text.slice(1)) as { sid: string };
      await fetch(`${node(on).url}/socket.io/?${query}&sid=${sid}`, { method: "POST", body: "1" });
    },
  };
}

const count = (answers: { status: number; code: string | undefined }[], status: number, code?: string) =>
  answers.filter((one) => one.status === status && one.code === code).length;

describe("places for connections", () => {
  it("[D23] exactly 5 of one user, when 50 knock at once on 3 nodes; another user is not concerned", async () => {
    const cluster = await startCluster({ nodes: 3, settings: { WS_MAX_CONNECTIONS_PER_USER: "" } });
    const answers = await Promise.all(
      Array.from({ length: 50 }, (_, n) => knock(cluster, "anna", (n % 3) + 1)),
    );
    expect(count(answers, 200)).to.equal(5);
    expect(count(answers, 429, "USER_CONNECTION_LIMIT")).to.equal(45);
    for (const { status, retryAfter } of answers) if (status === 429) expect(retryAfter).to.be.at.least(1);
    expect(await cluster.client().zcard(cluster.keys.userConnections("anna"))).to.equal(5);
    expect(count([await knock(cluster, "ben", 1)], 200)).to.equal(1);

    // A place that is left is free, once.
    await answers.find(({ status }) => status === 200)?.leave();
    const again = await Promise.all([1, 2, 3].map((on) => knock(cluster, "anna", on)));
    expect(count(again, 200)).to.equal(1);
  });

  it("[D23] exactly 10 of one address in any minute, over 3 nodes; refusals do not count", async () => {
    const cluster = await startCluster({ nodes: 3, settings: { WS_CONNECTIONS_PER_IP_PER_MINUTE: "" } });
    const redis = cluster.client();
    const key = cluster.keys.rateLimitIp("127.0.0.1");
    const bad = await fetch(`${cluster.node(1).url}/socket.io/?EIO=4&transport=polling&token=x`);
    expect(bad.status).to.equal(401);
    const answers = await Promise.all(
      Array.from({ length: 30 }, (_, n) => knock(cluster, `user-${n}`, (n % 3) + 1)),
    );
    expect(count(answers, 200)).to.equal(10);
    expect(count(answers, 429, "IP_RATE_LIMITED")).to.equal(20);
    for (const { status, retryAfter } of answers) if (status === 429) expect(retryAfter).to.be.within(50, 60);
    // A connection that was closed has counted: it was one.
    await answers.find(({ status }) => status === 200)?.leave();
    expect(count([await knock(cluster, "anna", 2)], 429, "IP_RATE_LIMITED")).to.equal(1);

    // The edge: seven of them came a minute ago but for two tenths of a second, three later.
    const ids = await redis.zrange(key, "0", "-1");
    const [seconds, micros] = (await redis.time()).map(Number) as [number, number];
    const edge = seconds * 1000 + Math.floor(micros / 1000) - 60_000 + 2 * TENTH_OF_A_SECOND;
    for (const [n, id] of ids.entries()) await redis.zadd(key, n < 7 ? edge : edge + 30_000, id);
    const before = await knock(cluster, "anna", 3);
    expect([before.status, before.retryAfter]).to.deep.equal([429, 1]);
    await until(
      "the first seven are a minute old",
      async () => (await knock(cluster, "anna", 1)).status === 200,
    );
    const after = await Promise.all(
      Array.from({ length: 20 }, (_, n) => knock(cluster, `u-${n}`, (n % 3) + 1)),
    );
    expect(count(after, 200)).to.equal(6);
  });

  it("[D23] never more than so many in all", async () => {
    const cluster = await startCluster({ nodes: 3, settings: { WS_MAX_CONNECTIONS: "20" } });
    const answers = await Promise.all(
      Array.from({ length: 40 }, (_, n) => knock(cluster, `user-${n}`, (n % 3) + 1)),
    );
    expect(count(answers, 200)).to.equal(20);
    expect(count(answers, 503, "CLUSTER_FULL")).to.equal(20);
    await answers.find(({ status }) => status === 200)?.leave();
    await until("one comes in again", async () => (await knock(cluster, "late", 1)).status === 200);
    expect(count([await knock(cluster, "too-late", 2)], 503, "CLUSTER_FULL")).to.equal(1);
  });

  it("[D23] the places of a killed node, of users, of the address and in all, are free within 15 s", async () => {
    const cluster = await startCluster({
      nodes: 3,
      settings: { WS_CONNECTIONS_PER_IP_PER_MINUTE: "", WS_MAX_CONNECTIONS: "10" },
    });
    await Promise.all(Array.from({ length: 10 }, (_, n) => knock(cluster, `user-${n}`, n < 6 ? 1 : 2)));
    await cluster.node(1).kill();
    const killed = Date.now();
    expect((await knock(cluster, "anna", 3)).code).to.equal("CLUSTER_FULL");
    await until("somebody comes in", async () => (await knock(cluster, "anna", 3)).status === 200);
    expect(Date.now() - killed).to.be.below(16_000);
    await until("five more", async () => (await knock(cluster, "anna", 3)).status !== 200);
    expect(await cluster.client().zcard(cluster.keys.rateLimitIp("127.0.0.1"))).to.equal(10);
  });

  it("[D23] a user whose every place was on a killed node comes back at once, and resumes", async () => {
    const cluster = await startCluster({ nodes: 2, settings: { WS_MAX_CONNECTIONS_PER_USER: "" } });
    const viewers = await Promise.all(Array.from({ length: 5 }, () => cluster.viewer({ on: 1 })));
    await Promise.all(viewers.map((one) => one.joined()));
    expect((await knock(cluster, "user-1", 2)).code).to.equal("USER_CONNECTION_LIMIT");
    const killed = Date.now();
    await cluster.node(1).kill();
    await Promise.all(viewers.map((one) => one.joined(2)));
    expect(Date.now() - killed).to.be.below(10_000);
    for (const { connects } of viewers) expect(connects).to.deep.equal([false, true]);
    expect(await cluster.client().zcard(cluster.keys.userConnections("user-1"))).to.equal(5);
    expect((await knock(cluster, "user-1", 2)).code).to.equal("USER_CONNECTION_LIMIT");
  });

  it("[D23] a place whose client is gone without a word is its user's again; one whose client answers is kept", async () => {
    const cluster = await startCluster({ nodes: 2, settings: { WS_MAX_CONNECTIONS_PER_USER: "2" } });
    const alive = await (await cluster.viewer({ on: 2 })).joined();
    const front = await cluster.front(1);
    const lost = await (await cluster.viewer({ on: 1, socket: { reconnection: false } })).joined();
    const { keys } = cluster;
    const redis = cluster.client();
    const slots = () => redis.zrange(keys.userConnections("user-1"), "0", "-1");
    expect(await slots()).to.have.members([alive.socket.id, lost.socket.id]);
    const former = lost.socket.id as string;
    front.strand();
    await lost.sees("that it is cut", () => lost.disconnects === 1);
    // It may still be on its way in.
    expect((await knock(cluster, "user-1", 2)).code).to.equal("USER_CONNECTION_LIMIT");
    await until(
      "the silent one's place is taken",
      async () => (await knock(cluster, "user-1", 2)).status === 200,
    );
    expect(await slots())
      .to.include(alive.socket.id)
      .and.not.include(former);
    await until("its node has closed it", async () => (await redis.exists(keys.connection(former))) === 0);
    expect(alive.disconnects).to.equal(0);
    expect(await slots()).to.have.length(2);
  });

  it("[D23] whoever resumes frees the place that it had, and ends the connection that it left", async () => {
    const cluster = await startCluster({ nodes: 2, settings: { WS_MAX_CONNECTIONS_PER_USER: "" } });
    const { keys } = cluster;
    const front = await cluster.front(1);
    const viewer = await (await cluster.viewer({ on: 1 })).joined();
    const former = viewer.socket.id as string;
    front.prefer(2);
    front.strand();
    await viewer.joined(2);
    expect(viewer.connects).to.deep.equal([false, true]);
    const redis = cluster.client();
    await until(
      "the former connection is gone",
      async () => (await redis.exists(keys.connection(former))) === 0,
    );
    expect(await redis.zrange(keys.userConnections("user-1"), "0", "-1")).to.deep.equal([viewer.socket.id]);
    expect(await redis.zrange(keys.leases, "0", "-1")).to.deep.equal([viewer.socket.id]);
  });

  it("[D23] leases that Redis lost are there again, and what a client abandons half-way takes no place", async () => {
    const cluster = await startCluster({ nodes: 1 });
    const { keys } = cluster;
    const viewer = await (await cluster.viewer()).joined();
    const redis = cluster.client();
    await redis.del(keys.leases, keys.userConnections("user-1"));
    await until("the lease is there again", async () => (await redis.zcard(keys.leases)) === 1);
    expect(await redis.zrange(keys.userConnections("user-1"), "0", "-1")).to.deep.equal([viewer.socket.id]);

    const sockets: Socket[] = Array.from({ length: 20 }, (_, n) =>
      io(cluster.node(1).url + AGENTS_NAMESPACE, {
        forceNew: true,
        reconnection: false,
        transports: [n % 2 === 0 ? "websocket" : "polling"],
        query: { token: token(`user-${n + 2}`, ["p1"]) },
      }),
    );
    onTeardown(() => {
      for (const socket of sockets) socket.disconnect();
    });
    for (const [n, socket] of sockets.entries()) setTimeout(() => socket.disconnect(), n * 2);
    await until("only the viewer has a place", async () => (await redis.zcard(keys.leases)) === 1);
  });
});
