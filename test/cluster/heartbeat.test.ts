import { expect } from "chai";
import { type BareOptions, openBare } from "../harness/bare-viewer.js";
import { sharedCluster } from "../harness/cluster.js";
import { needs } from "../harness/needs.js";
import { startPython } from "../harness/python.js";
import { token } from "../harness/token.js";
import { until } from "../harness/wait.js";

/** A ping every two seconds, and one to answer it: a late answer comes before the next ping. */
const settings = {
  WS_HEARTBEAT_INTERVAL: "2",
  WS_HEARTBEAT_TIMEOUT: "1",
  WS_HEARTBEAT_MAX_MISSED: "3",
  WS_REPLAY_WINDOW_SECONDS: "20",
};

describe("heartbeat", () => {
  needs("REDIS");
  const cluster = sharedCluster({ nodes: 1, settings });
  const open = (options: BareOptions = {}) => openBare(cluster().node(1).url, options);
  const record = async (user: string) => {
    const client = cluster().client();
    const [id = ""] = await client.zrange(`ws:connections:user:${user}`, "0", "-1");
    return client.hgetall(`ws:connections:${id}`);
  };

  const closes = async (options: BareOptions) => {
    const bare = await open(options);
    await until(`${options.user} is closed`, () => bare.closed.length > 0);
    expect(bare.pings, `pings to ${options.user}`).to.equal(3);
    await until(
      `the record of ${options.user} is gone`,
      async () => (await record(options.user ?? "")).connection_id === undefined,
    );
  };
  const stays = async (options: BareOptions) => {
    const bare = await open(options);
    await until(`seven pings to ${options.user}`, () => bare.pings >= 7);
    expect(bare.closed, `${options.user}`).to.deep.equal([]);
  };

  it("[D30] the third ping in a row that is missed ends a connection, not the first; a late answer is none", async () => {
    await Promise.all([
      closes({ user: "silent", onPing: () => {} }),
      closes({ user: "slow", onPing: (_, pong) => setTimeout(pong, 1500) }),
      stays({ user: "late", onPing: (n, pong) => (n % 3 === 0 ? pong() : setTimeout(pong, 1500)) }),
      stays({ user: "tunnel", onPing: (n, pong) => n % 3 === 0 && pong() }),
    ]);
    const reasons = cluster()
      .node(1)
      .log.filter(({ event }) => event === "disconnect")
      .map(({ user, reason }) => [user, reason]);
    expect(reasons).to.deep.include.members([
      ["silent", "ping timeout"],
      ["slow", "ping timeout"],
    ]);
  });

  it("[D30] who reads nothing any more, and whose end nobody told, is gone from Redis", async () => {
    const bare = await open({ user: "half-open" });
    await until("its record is written", async () => (await record("half-open")).connection_id);
    const { connection_id } = await record("half-open");
    const { _socket: socket } = bare.ws as unknown as { _socket: { pause(): void } };
    socket.pause();
    await until("its record is gone", async () => (await record("half-open")).connection_id === undefined);
    expect(await cluster().client().exists(`ws:connections:${connection_id}`)).to.equal(0);
    expect(bare.closed).to.deep.equal([]);
  });

  it("[D30] its record says when it last answered", async () => {
    let answers = true;
    await open({ user: "seen", onPing: (_, pong) => answers && pong() });
    const heard = async () => Date.parse((await record("seen")).last_heartbeat ?? "");
    await until("the record is written", async () => (await heard()) > 0);
    const first = await heard();
    await until("it moves on", async () => (await heard()) > first + 2000);
    answers = false;
    const stopped = Date.now();
    let last = 0;
    await until("its record is gone", async () => {
      const { last_heartbeat } = await record("seen");
      if (last_heartbeat) last = Date.parse(last_heartbeat);
      return last_heartbeat === undefined;
    });
    expect(last).to.be.at.most(stopped);
  });

  it("[D30] stock clients stay, over WebSocket and over polling", async () => {
    const viewers = await Promise.all(
      [["websocket"], ["polling"]].map((transports) => cluster().viewer({ socket: { transports } })),
    );
    const pings = viewers.map(() => 0);
    for (const [n, { socket }] of viewers.entries())
      socket.io.on("ping", () => {
        pings[n] = (pings[n] ?? 0) + 1;
      });
    await until("five pings each", () => pings.every((count) => count >= 5));
    for (const { connects, disconnects } of viewers)
      expect({ connects, disconnects }).to.deep.equal({ connects: [false], disconnects: 0 });
  });
});

describe("heartbeat of a client in Python", () => {
  needs("REDIS");
  needs("PYTHON");
  const cluster = sharedCluster({ nodes: 2, settings });

  it("[D30][D3] over WebSocket, polling, and one after the other: it stays, and hears what happens", async () => {
    const all = [["websocket"], ["polling"], ["polling", "websocket"]].map((transports) => {
      const user = `guido-${transports.join("-")}`;
      const query = { token: token(user, ["p1"]), resume: "none" };
      return { user, python: startPython(cluster().node(1).url, query, transports) };
    });
    const client = cluster().client();
    const answered = async (user: string) => {
      const [id = ""] = (await client.zrange(`ws:connections:user:${user}`, "0", "-1")).slice(-1);
      return Date.parse((await client.hget(`ws:connections:${id}`, "last_heartbeat")) ?? "");
    };
    await Promise.all(
      all.map(async ({ user, python }) => {
        await until(`${user} is connected`, () => python.count("connect") === 1);
        await until(`${user} is known`, async () => (await answered(user)) > 0);
        const first = await answered(user);
        await until(`${user} has answered for long`, async () => (await answered(user)) > first + 7000);
      }),
    );
    const change = { agent_id: "a1", project_id: "p1", new_status: "working" as const };
    const { sequence_id } = await cluster().worker().agentStatus(change);
    for (const { user, python } of all) {
      await until(`${user} has heard`, () => python.changes.includes(sequence_id));
      expect(python.count("disconnect"), python.stderr).to.equal(0);
    }
  });
});
