import { once } from "node:events";
import { createServer } from "node:http";
import type { AddressInfo } from "node:net";
import { AGENTS_NAMESPACE, codes } from "@agentwire/shared";
import { createAdapter } from "@socket.io/redis-streams-adapter";
import { expect } from "chai";
import type { Redis } from "ioredis";
import jwt from "jsonwebtoken";
import { Server } from "socket.io";
import { io, type Socket } from "socket.io-client";
import { parser } from "../../server/src/gate/parser.js";
import { refuseRoot } from "../../server/src/node/agents.js";
import { sharedCluster } from "../harness/cluster.js";
import { type Answer, knock } from "../harness/knock.js";
import { onTeardown } from "../harness/teardown.js";
import { JWT_SECRET, token } from "../harness/token.js";
import { until } from "../harness/wait.js";

const APP = "https://app.example.com";
const ISSUER = "https://login.example.com";
const FOREIGN = { Origin: "https://elsewhere.example.com" };
const bearer = (text: string) => ({ Authorization: `Bearer ${text}` });
const signed = (options: Parameters<typeof token>[2] = {}) =>
  token("anna", ["p1"], { issuer: ISSUER, ...options });
const good = signed();
const base64 = (value: object) => Buffer.from(JSON.stringify(value)).toString("base64url");
const claims = jwt.decode(good) as jwt.JwtPayload;
/** Well signed, with other claims than a login would give; what is undefined is left out. */
const claiming = (other: object) => jwt.sign(JSON.stringify({ ...claims, ...other }), JWT_SECRET);

const transports = ["polling", "websocket"] as const;

/** The CONNECT_ERROR of a stock client that must not come in. */
function refusedBy(socket: Socket): Promise<Error & { data?: { code: string; retry: string } }> {
  onTeardown(() => void socket.disconnect());
  return new Promise((resolve, reject) => {
    socket.on("connect_error", resolve).on("connect", () => reject(new Error("it came in")));
  });
}

/** A Socket.IO server without connections of its own, that asks the nodes about theirs. */
function joinCluster(client: Redis, options: { streamName: string; channelPrefix: string }) {
  const readers: Redis[] = [];
  const duplicate = client.duplicate.bind(client);
  client.duplicate = (more) => {
    const reader = duplicate(more);
    readers.push(reader);
    return reader;
  };
  const other = new Server({
    adapter: createAdapter(client, { ...options, maxLen: 1e9, blockTimeInMs: 50 }),
  });
  const close = async () => {
    for (const { adapter } of other._nsps.values()) await adapter.close();
    await until("its readers have ended", () => readers.every(({ status }) => status === "end"));
  };
  return { other, close };
}

describe("the door", () => {
  const cluster = sharedCluster({ nodes: 1, settings: { CORS_ORIGINS: APP, JWT_ISSUER: ISSUER } });
  const address = (transport: string, query: string) =>
    `${cluster().node(1).url}/socket.io/?EIO=4&transport=${transport}&${query}`;
  const welcome = { polling: 200, websocket: 101 };

  const expectRefusal = ({ status, headers, body }: Answer, code: keyof typeof codes) => {
    const { status: wanted, retry, message } = codes[code];
    expect(status).to.equal(wanted);
    const { error } = JSON.parse(body);
    expect(error).to.include({ code, retry });
    expect(error.message).to.be.a("string").and.not.equal("");
    expect(Object.keys(error)).to.have.members(["code", "message", "retry"]);
    expect(headers["content-type"]).to.match(/^application\/json/);
    if (status === 401) expect(error.message).to.equal(message);
  };

  afterEach("a refusal leaves no session behind", async () => {
    await until("no connection is recorded", async () => {
      return (await cluster().client().keys("ws:connections:*")).length === 0;
    });
  });

  for (const transport of transports) {
    describe(`over ${transport}`, () => {
      const badTokens: [string, string, Record<string, string>?][] = [
        ["no token", ""],
        ["an empty token", "token="],
        ["a malformed token", "token=no.token"],
        ["an expired token", `token=${signed({ expiresIn: -1 })}`],
        ["a badly signed token", `token=${signed({ secret: "another-secret" })}`],
        ["another algorithm", `token=${signed({ algorithm: "HS512" })}`],
        ["alg none", `token=${base64({ alg: "none", typ: "JWT" })}.${base64(claims)}.`],
        ["another audience", `token=${signed({ audience: "another" })}`],
        ["another issuer", `token=${signed({ issuer: "https://another.example.com" })}`],
        ["no exp", `token=${claiming({ exp: undefined })}`],
        ["a sub that is no string", `token=${claiming({ sub: 7 })}`],
        ["an empty sub", `token=${claiming({ sub: "" })}`],
        ["control characters in sub", `token=${claiming({ sub: "anna\n" })}`],
        ["two tokens that differ", `token=${good}`, bearer(token("ben", ["p1"], { issuer: ISSUER }))],
        ["a token twice in the query, and different", `token=${good}&token=x`],
        ["another scheme than Bearer", "", { Authorization: `Basic ${good}` }],
      ];

      it("[D12] whatever is wrong with the token, 401 UNAUTHORIZED in the same words", async () => {
        const bodies = new Set<string>();
        for (const [what, query, headers] of badTokens) {
          const answer = await knock(address(transport, query), headers);
          expect(answer.status, what).to.equal(401);
          expectRefusal(answer, "UNAUTHORIZED");
          bodies.add(answer.body);
        }
        expect([...bodies]).to.have.length(1);
      });

      it("[D12] the tokens of anon and service_role are no user's: 401", async () => {
        for (const role of ["anon", "service_role"]) {
          const answer = await knock(address(transport, `token=${signed({ claims: { role } })}`));
          expectRefusal(answer, "UNAUTHORIZED");
        }
      });

      it("[D12] a good token comes in: in the query, in the header alone, or in both alike", async () => {
        for (const [query, headers] of [
          [`token=${good}`, {}],
          ["", bearer(good)],
          [`token=${good}`, bearer(good)],
          [`token=${claiming({})}`, {}],
        ] as const) {
          expect((await knock(address(transport, query), headers)).status).to.equal(welcome[transport]);
        }
      });

      it("[D12] an empty sid is no session: the door is not passed without a token", async () => {
        for (const query of ["sid=", "sid=x&sid="]) {
          expectRefusal(await knock(address(transport, query)), "UNAUTHORIZED");
        }
      });

      it("[D12] a foreign origin: 403 ORIGIN_FORBIDDEN, and nothing that lets its page read it", async () => {
        const answer = await knock(address(transport, `token=${good}`), FOREIGN);
        expectRefusal(answer, "ORIGIN_FORBIDDEN");
        expect(answer.headers).not.to.have.property("access-control-allow-origin");
      });

      it("[D12] a page of an allowed origin, or of the node's own, comes in and can read refusals", async () => {
        for (const Origin of [APP, cluster().node(1).url]) {
          const came = await knock(address(transport, `token=${good}`), { Origin });
          expect(came.status).to.equal(welcome[transport]);
          const refused = await knock(address(transport, ""), { Origin });
          expectRefusal(refused, "UNAUTHORIZED");
          for (const { headers } of transport === "polling" ? [came, refused] : [refused]) {
            expect(headers).to.include({
              "access-control-allow-origin": Origin,
              "access-control-allow-credentials": "true",
              "access-control-expose-headers": "Retry-After",
            });
          }
        }
      });

      const badQueries: [string, string, "BAD_REQUEST" | "INVALID_FILTER"][] = [
        ["an unknown encoding", "encoding=xml", "BAD_REQUEST"],
        ["an encoding in other letters", "encoding=MessagePack", "BAD_REQUEST"],
        ["a repeated parameter", "agent_ids=a1&agent_ids=a2", "BAD_REQUEST"],
        ["the same token twice", `token=${good}`, "BAD_REQUEST"],
        ["51 ids", `agent_ids=${Array.from({ length: 51 }, (_, n) => `a${n}`)}`, "INVALID_FILTER"],
        ["an id with a space", "agent_ids=a%201", "INVALID_FILTER"],
        ["an id with a line end", "project_ids=p1%0A", "INVALID_FILTER"],
        ["an id of 129 characters", `agent_ids=${"a".repeat(129)}`, "INVALID_FILTER"],
        ["an empty id", "agent_ids=a1,,a2", "INVALID_FILTER"],
        ["an unknown event type", "event_types=NOPE", "INVALID_FILTER"],
        ["a property of every object", "event_types=constructor", "INVALID_FILTER"],
        ["a position that is none", "last_sequence_id=12", "BAD_REQUEST"],
        ["a position with leading zeros", "last_sequence_id=012-0", "BAD_REQUEST"],
        ["an epoch that is none", "epoch=%00", "BAD_REQUEST"],
        ["an unknown resume", "resume=all", "BAD_REQUEST"],
      ];
      for (const [what, query, code] of badQueries) {
        it(`[D12] ${what}: 400 ${code}`, async () => {
          expectRefusal(await knock(address(transport, `token=${good}&${query}`)), code);
        });
      }

      it("[D12] a project one may not see and one that does not exist: 403 FORBIDDEN, byte for byte", async () => {
        const { keys, client } = cluster();
        await client().zadd(keys.projectAgents("p2"), 1, "a2");
        const [one, other, mixed] = await Promise.all(
          ["p2", "nowhere", "p1,p2"].map((id) =>
            knock(address(transport, `token=${good}&project_ids=${id}`)),
          ),
        );
        expectRefusal(one as Answer, "FORBIDDEN");
        const bytes = (answer?: Answer) => ({ ...answer, headers: { ...answer?.headers, date: "" } });
        expect(bytes(other)).to.deep.equal(bytes(one));
        expect(bytes(mixed)).to.deep.equal(bytes(one));
      });

      it("[D12] where several things are wrong, the first of origin, token, query, rights is answered", async () => {
        const both = "project_ids=p2&encoding=xml";
        expectRefusal(await knock(address(transport, `token=x&${both}`), FOREIGN), "ORIGIN_FORBIDDEN");
        expectRefusal(await knock(address(transport, `token=x&${both}`)), "UNAUTHORIZED");
        expectRefusal(await knock(address(transport, `token=${good}&${both}`)), "BAD_REQUEST");
      });

      for (const namespace of ["/", "/nope", "/ws/agents/x", "/ws/terminal/"]) {
        it(`[D12] namespace ${namespace}: CONNECT_ERROR NAMESPACE_UNKNOWN`, async () => {
          const socket = io(cluster().node(1).url + namespace, {
            transports: [transport],
            forceNew: true,
            query: { token: good },
          });
          const error = await refusedBy(socket);
          expect(error.data).to.include({ code: "NAMESPACE_UNKNOWN", retry: "never" });
        });
      }
    });
  }

  it("[D12] the preflight of an allowed origin is answered, that of another one with nothing to rely on", async () => {
    const ask = { "Access-Control-Request-Method": "GET", "Access-Control-Request-Headers": "authorization" };
    const allowed = await knock(address("polling", ""), { ...ask, Origin: APP }, "OPTIONS");
    expect(allowed.status).to.equal(204);
    expect(allowed.headers).to.include({ "access-control-allow-origin": APP });
    expect(allowed.headers["access-control-allow-methods"]).to.include("GET").and.include("POST");
    expect(allowed.headers["access-control-allow-headers"]).to.match(/authorization/i);
    const { headers } = await knock(address("polling", ""), { ...ask, ...FOREIGN }, "OPTIONS");
    expect(Object.keys(headers).filter((name) => name.startsWith("access-control-"))).to.deep.equal([]);
  });

  it("[D12] another server of the cluster sees a connection's handshake, but not its token", async () => {
    const { redis, keys, viewer } = cluster();
    const others = { Cookie: `session=${good}`, "X-Forwarded-Access-Token": good };
    const watcher = await viewer({
      query: { token: good, access_token: good, app: "dashboard" },
      socket: { extraHeaders: { ...bearer(good), ...others } },
    });
    await watcher.joined();
    const { other, close } = joinCluster(redis.client(), {
      streamName: keys.events,
      channelPrefix: keys.adapterChannel,
    });
    onTeardown(close);
    const sockets = await until("the connection is listed", async () => {
      const found = await other
        .of(AGENTS_NAMESPACE)
        .fetchSockets()
        .catch(() => []);
      return found.length > 0 && found;
    });
    expect(sockets.map(({ id }) => id)).to.deep.equal([watcher.socket.id]);
    const shown = JSON.stringify(sockets[0]?.handshake);
    expect(shown).to.include("transport=websocket").and.include("app=dashboard");
    for (const part of good.split(".")) expect(shown).not.to.include(part);
    watcher.socket.disconnect();
  });

  it("[D12] a namespace that is refused is not created", async () => {
    const http = createServer().listen(0, "127.0.0.1");
    await once(http, "listening");
    const server = new Server(http, { parser: parser as never });
    onTeardown(() => server.close());
    refuseRoot(server);
    const { port } = http.address() as AddressInfo;
    const socket = io(`http://127.0.0.1:${port}/nope`, { forceNew: true, transports: ["websocket"] });
    const error = await refusedBy(socket);
    expect(error.data?.code).to.equal("NAMESPACE_UNKNOWN");
    expect([...server._nsps.keys()]).to.deep.equal(["/"]);
  });
});
