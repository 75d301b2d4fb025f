import { type Code, codes } from "@agentwire/shared";
import { expect } from "chai";
import { type Cluster, startCluster } from "../harness/cluster.js";
import { knock } from "../harness/knock.js";
import { needs } from "../harness/needs.js";
import { startNginx } from "../harness/nginx.js";
import { token } from "../harness/token.js";
import { until } from "../harness/wait.js";

const APP = "https://app.example.com";
const good = () => token("anna", ["p1"]);

interface Case {
  code: Code;
  settings?: NodeJS.ProcessEnv;
  /** Brings the cluster to where it refuses; what it returns brings it back. */
  prepare?(cluster: Cluster): Promise<() => void | Promise<void>>;
  query?: () => Record<string, string>;
  headers?: Record<string, string>;
  /** Redis does not answer. */
  blind?: boolean;
}

const inside = async (cluster: Cluster) => {
  const viewer = await (await cluster.viewer({ user: "anna" })).joined();
  const record = cluster.keys.connection(viewer.socket.id as string);
  await until("all is written about it", () => cluster.client().exists(record));
  return () => void viewer.socket.disconnect();
};

/** In the order in which they are checked. */
const cases: Case[] = [
  {
    code: "DRAINING",
    blind: true,
    // A stop takes a moment while Redis hangs, for the node waits for it; the node listens until the end.
    async prepare({ redis, node }) {
      redis.pause();
      const stopped = node(1).stop();
      await until("the node stops", () => node(1).log.some(({ msg }) => msg === "stopping"));
      return async () => {
        redis.resume();
        await stopped;
      };
    },
  },
  {
    code: "UNAVAILABLE",
    blind: true,
    async prepare({ redis, node }) {
      await redis.kill();
      await until("the node knows", async () => (await node(1).readyz()) === 503);
      return () => redis.restart();
    },
  },
  { code: "CLUSTER_FULL", settings: { WS_MAX_CONNECTIONS: "1" }, prepare: inside },
  { code: "ORIGIN_FORBIDDEN", headers: { Origin: "https://elsewhere.example.com" } },
  { code: "IP_RATE_LIMITED", settings: { WS_CONNECTIONS_PER_IP_PER_MINUTE: "1" }, prepare: inside },
  { code: "UNAUTHORIZED", query: () => ({ token: "no.token.atall" }) },
  { code: "BAD_REQUEST", query: () => ({ encoding: "xml" }) },
  {
    code: "INVALID_FILTER",
    query: () => ({ agent_ids: Array.from({ length: 51 }, (_, n) => `a${n}`).join() }),
  },
  { code: "FORBIDDEN", query: () => ({ project_ids: "p2" }) },
  { code: "USER_CONNECTION_LIMIT", settings: { WS_MAX_CONNECTIONS_PER_USER: "1" }, prepare: inside },
];

/** How many connections the node itself counts. */
async function sessionsOf({ node }: Cluster): Promise<number> {
  const metrics = await (await fetch(`${node(1).adminUrl}/metrics`)).text();
  const counts = [...metrics.matchAll(/^agentwire_connections\{.*\} (\d+)$/gm)];
  expect(counts).not.to.deep.equal([]);
  return counts.reduce((sum, [, count]) => sum + Number(count), 0);
}

/** What no refusal may change, but for the audit stream, which is there to tell of it. */
async function stateOf({ client, keys }: Cluster) {
  const redis = client();
  const renewed = [
    keys.audit,
    keys.busLease,
    keys.rateLimitGlobal,
    keys.instance("node-1"),
    keys.instanceState("node-1"),
  ];
  const there = (await redis.keys("*")).filter((key) => !renewed.includes(key)).sort();
  const members = await Promise.all(
    [keys.leases, keys.userConnections("anna")].map((key) => redis.zrange(key, "0", "-1")),
  );
  const addresses = await redis.zrange(keys.rateLimitIp("127.0.0.1"), "0", "-1", "WITHSCORES");
  return { there, members, addresses };
}

describe("every refusal", () => {
  needs("NGINX");

  for (const one of cases) {
    const { code, settings = {}, prepare, query, headers = {}, blind } = one;
    it(`[D12] ${codes[code].status} ${code}, on both transports, directly and behind nginx, leaves nothing behind`, async () => {
      const cluster = await startCluster({
        nodes: 1,
        settings: { CORS_ORIGINS: APP, TRUSTED_PROXIES: "127.0.0.1", ...settings },
      });
      const nginx = await startNginx([cluster.node(1).port]);
      const undo = await prepare?.(cluster);
      const before = blind ? undefined : await stateOf(cluster);
      const bodies = new Set<string>();
      // All at once: a node that stops does so soon.
      const ways = [cluster.node(1).url, nginx.url].flatMap((url) =>
        ["polling", "websocket"].map((transport) => ({ url, transport })),
      );
      const answers = await Promise.all(
        ways.map(async ({ url, transport }) => {
          const params = new URLSearchParams({ EIO: "4", transport, token: good(), ...query?.() });
          const where = `${transport} ${url === nginx.url ? "behind nginx" : "directly"}`;
          return { where, ...(await knock(`${url}/socket.io/?${params}`, { Origin: APP, ...headers })) };
        }),
      );
      for (const { where, status, headers: given, body } of answers) {
        const { status: due, retry } = codes[code];
        expect(status, where).to.equal(due);
        const { error } = JSON.parse(body);
        expect(Object.keys(error), where).to.have.members(["code", "message", "retry"]);
        expect(error, where).to.include({ code, retry });
        bodies.add(body);
        expect(given["content-type"], where).to.match(/^application\/json/);
        expect(given["cache-control"], where).to.equal("no-store");
        if (retry === "later") expect(given["retry-after"], where).to.match(/^[1-9]\d?$/);
        else expect(given, where).not.to.have.property("retry-after");
        if (code === "ORIGIN_FORBIDDEN") expect(given).not.to.have.property("access-control-allow-origin");
        else
          expect(given, where).to.include({
            "access-control-allow-origin": APP,
            "access-control-expose-headers": "Retry-After",
          });
      }
      expect([...bodies]).to.have.length(1);
      if (before) {
        expect(await stateOf(cluster)).to.deep.equal(before);
        expect(await sessionsOf(cluster)).to.equal(prepare ? 1 : 0);
        for (const members of before.members) expect(members).to.have.length(prepare ? 1 : 0);
      }
      await undo?.();
    });
  }
});
