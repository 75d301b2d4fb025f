import { once } from "node:events";
import { createServer } from "node:http";
import type { AddressInfo } from "node:net";
import type { Filters } from "@agentwire/shared";
import { expect } from "chai";
import { Server, type Socket } from "socket.io";
import { type AgentwireClient, type ClientOptions, createClient } from "../../client/src/client.js";
import type { ViewerEnvelope } from "../../client/src/events.js";
import type { ConnectionState } from "../../client/src/state.js";

const stamp = { event_id: "e", timestamp: "2026-01-01T00:00:00.000Z", priority: "HIGH" } as const;
const nothing: Filters = { agent_ids: [], project_ids: [], event_types: [] };

/** Stands in for a node: says READY, then what `greet` says; refuses over HTTP where `door` names a refusal. */
class FakeNode {
  readonly sockets: Socket[] = [];
  door: { status: number; code: string; retry: string } | undefined;
  greet = (socket: Socket) => this.say(socket, "SNAPSHOT", { agents: [], sequence_id: "10-0" });
  readyWith: object = {};

  private constructor(
    readonly url: string,
    readonly stop: () => Promise<void>,
  ) {}

  static async start(name: string, port = 0): Promise<FakeNode> {
    const http = createServer();
    const io = new Server(http, {
      cors: { origin: "*" },
      allowRequest: (_req, done) => done(null, node.door === undefined),
    });
    const [answer] = http.listeners("request") as ((...args: unknown[]) => void)[];
    http.removeAllListeners("request").on("request", (req, res) => {
      if (!node.door) return answer?.(req, res);
      const { status, ...error } = node.door;
      res.writeHead(status, { "Access-Control-Allow-Origin": "*" });
      res.end(JSON.stringify({ error: { message: "refused by the door", ...error } }));
    });
    http.listen(port, "127.0.0.1");
    await once(http, "listening");
    const stop = async () => {
      // Cut, not dismissed: `disconnectSockets` would tell the clients not to come back.
      io.engine.close();
      await new Promise<void>((resolve) => http.close(() => resolve()));
    };
    const node = new FakeNode(`http://127.0.0.1:${(http.address() as AddressInfo).port}`, stop);
    io.of("/ws/agents").use((socket, next) => {
      Object.assign(socket, { pid: socket.handshake.auth.pid ?? `pid-${name}` });
      next();
    });
    io.of("/ws/agents").on("connection", (socket) => {
      node.sockets.push(socket);
      const position = String(socket.handshake.query.last_sequence_id ?? "10-0");
      node.say(socket, "READY", {
        ...{ connection_id: socket.id, instance_id: name, user_id: "u", epoch: "one", sequence_id: position },
        ...{ filters: nothing, encoding: "json", recovered: false, ...node.readyWith },
      });
      node.greet(socket);
    });
    return node;
  }

  get last(): Socket {
    const socket = this.sockets.at(-1);
    if (!socket) throw new Error("nobody connected");
    return socket;
  }

  say(socket: Socket, event_type: string, payload: object): void {
    socket.emit(event_type, { ...stamp, event_type, payload });
  }

  change(socket: Socket, sequence_id: string): void {
    const payload = { agent_id: "a", project_id: "p", old_status: "idle", new_status: "working" };
    socket.emit(
      "AGENT_STATUS_CHANGED",
      { ...stamp, event_type: "AGENT_STATUS_CHANGED", sequence_id, payload },
      sequence_id,
    );
  }
}

/** Resolves with the first state, from now on, of this name; the present one counts. */
function reaches<N extends ConnectionState["name"]>(client: AgentwireClient, name: N) {
  type Wanted = Extract<ConnectionState, { name: N }>;
  if (client.state.name === name) return Promise.resolve(client.state as Wanted);
  return new Promise<Wanted>((resolve) => {
    const stop = client.onState((state) => {
      if (state.name !== name) return;
      stop();
      resolve(state as Wanted);
    });
  });
}

const next = <E extends ViewerEnvelope["event_type"]>(client: AgentwireClient, type: E) =>
  new Promise<void>((resolve) => {
    const stop = client.on(type, () => {
      stop();
      resolve();
    });
  });

describe("client connection", () => {
  const undo: (() => unknown)[] = [];
  const node = async (name: string, port?: number) => {
    const started = await FakeNode.start(name, port);
    undo.push(() => started.stop());
    return started;
  };
  const viewer = (options: Partial<ClientOptions> & Pick<ClientOptions, "urls">) => {
    const client = createClient({ token: "t", ...options });
    undo.unshift(() => client.close());
    return client;
  };
  afterEach(async () => {
    for (const step of undo.splice(0)) await step();
  });

  it("goes live, and says which node it is on", async () => {
    const one = await node("one");
    const client = viewer({ urls: [one.url], filters: { project_ids: ["p", "q"] } });
    expect(client.state).to.deep.equal({ name: "connecting", attempt: 1, url: one.url });
    expect(await reaches(client, "live")).to.include({ url: one.url, instanceId: "one" });
    expect(one.last.handshake.query).to.include({ token: "t", project_ids: "p,q" });
  });

  it("tells at once that urls are missing or wrong", () => {
    expect(() => createClient({ urls: [], token: "t" })).to.throw(TypeError);
    expect(() => createClient({ urls: ["http://127.0.0.1:1", "no url"], token: "t" })).to.throw(TypeError);
  });

  it("asks the next node when the first one does not answer", async () => {
    const two = await node("two");
    const client = viewer({ urls: ["http://127.0.0.1:1", two.url] });
    expect(await reaches(client, "waiting")).to.include({ because: "the node did not answer" });
    expect(await reaches(client, "live")).to.include({ instanceId: "two" });
  });

  it("[D5] on another node goes on after its position, and delivers nothing twice", async () => {
    const [one, two] = [await node("one"), await node("two")];
    const client = viewer({ urls: [one.url, two.url] });
    const seen: (string | undefined)[] = [];
    client.on("AGENT_STATUS_CHANGED", ({ sequence_id }) => seen.push(sequence_id));
    await next(client, "SNAPSHOT");
    one.change(one.last, "11-0");
    await next(client, "AGENT_STATUS_CHANGED");

    two.greet = (socket) => {
      two.say(socket, "REPLAY_START", { from: "11-0" });
      for (const id of ["11-0", "12-0"]) two.change(socket, id);
      two.say(socket, "REPLAY_END", { to: "12-0", count: 2, complete: true });
    };
    await one.stop();
    const caughtUp = next(client, "REPLAY_END");
    expect(await reaches(client, "catching_up")).to.include({ instanceId: "two", from: "11-0" });
    await caughtUp;
    expect(client.state).to.include({ name: "live", recovered: true });
    expect(two.last.handshake.query).to.include({ last_sequence_id: "11-0", epoch: "one" });
    expect(seen).to.deep.equal(["11-0", "12-0"]);
    expect(client.counts).to.deep.equal({ delivered: 2, repeats: 1 });
  });

  it("returns to the same node with the same session, and a fresh token each time", async () => {
    const one = await node("one");
    let tokens = 0;
    const client = viewer({ urls: [one.url], token: async () => `t${++tokens}` });
    await next(client, "SNAPSHOT");
    one.change(one.last, "11-0");
    await next(client, "AGENT_STATUS_CHANGED");
    one.last.conn.close();
    await reaches(client, "waiting");
    await reaches(client, "live");
    expect(one.last.handshake.auth).to.deep.equal({ pid: "pid-one", offset: "11-0" });
    expect(one.last.handshake.query).to.include({ token: "t2", last_sequence_id: "11-0" });
  });

  it("a token that cannot be had is a reason to wait", async () => {
    const one = await node("one");
    let calls = 0;
    const token = () => (++calls === 1 ? Promise.reject(new Error("offline")) : "t");
    const client = viewer({ urls: [one.url], token });
    expect((await reaches(client, "waiting")).because).to.equal("there is no token: Error: offline");
    await reaches(client, "live");
  });

  it("a refusal that another token does not change ends it, over HTTP and in the namespace", async () => {
    const one = await node("one");
    one.door = { status: 401, code: "UNAUTHORIZED", retry: "new_token" };
    const refused = { name: "closed", reason: "refused by the door", code: "UNAUTHORIZED" };
    expect(await reaches(viewer({ urls: [one.url] }), "closed")).to.deep.equal(refused);

    const renewing = viewer({ urls: [one.url], token: () => "t" });
    await reaches(renewing, "waiting");
    one.door = undefined;
    await reaches(renewing, "live");

    one.last.nsp.use((_socket, proceed) => {
      const data = { code: "FORBIDDEN", message: "no right to this", retry: "never" };
      proceed(Object.assign(new Error(data.message), { data }));
    });
    const last = await reaches(viewer({ urls: [one.url] }), "closed");
    expect(last).to.deep.equal({ name: "closed", reason: "no right to this", code: "FORBIDDEN" });
  });

  it("closed by the server for good stays closed, unless the server said what would help", async () => {
    const one = await node("one");
    const kicked = viewer({ urls: [one.url] });
    await next(kicked, "SNAPSHOT");
    one.last.disconnect(true);
    expect((await reaches(kicked, "closed")).reason).to.equal("the server closed the connection for good");

    const renewing = viewer({ urls: [one.url], token: () => "t" });
    await next(renewing, "SNAPSHOT");
    one.say(one.last, "TOKEN_EXPIRING", { expires_in_ms: 1 });
    one.last.disconnect(true);
    expect((await reaches(renewing, "waiting")).because).to.equal("the token has run out");
    await reaches(renewing, "live");
  });

  it("[D5] leaves a draining node only when it is on another one", async () => {
    const [one, two] = [await node("one"), await node("two")];
    const client = viewer({ urls: [one.url, two.url] });
    await next(client, "SNAPSHOT");
    const states: string[] = [];
    client.onState(({ name }) => states.push(name));
    one.say(one.last, "SERVER_DRAINING", { deadline_ms: 30_000, reconnect_in_ms: 20 });
    const left = once(one.last, "disconnect");
    await next(client, "READY");
    expect(client.state).to.include({ name: "live", instanceId: "two" });
    expect(two.last.handshake.query).to.include({ last_sequence_id: "10-0" });
    await left;
    expect(states).to.deep.equal(["live"]);
  });

  it("a draining node that goes before its time is replaced at once", async () => {
    const [one, two] = [await node("one"), await node("two")];
    const client = viewer({ urls: [one.url, two.url] });
    await next(client, "SNAPSHOT");
    one.say(one.last, "SERVER_DRAINING", { deadline_ms: 30_000, reconnect_in_ms: 30_000 });
    await next(client, "SERVER_DRAINING");
    one.last.conn.close();
    await reaches(client, "waiting");
    expect(await reaches(client, "live")).to.include({ instanceId: "two" });
  });

  it("subscribe keeps what was wanted apart from what was confirmed", async () => {
    const one = await node("one");
    const asked: object[] = [];
    one.greet = (socket) => {
      one.say(socket, "SNAPSHOT", { agents: [], sequence_id: "10-0" });
      socket.on("SUBSCRIBE", (filters: Partial<Filters>, ack) => {
        asked.push(filters);
        if (filters.project_ids?.includes("foreign"))
          return ack({ ok: false, error: { code: "FORBIDDEN", message: "no" } });
        ack({ ok: true, filters: { ...nothing, ...filters }, sequence_id: "10-0" });
        one.say(socket, "FILTERS_UPDATED", { ...nothing, ...filters });
      });
    };
    const client = viewer({ urls: [one.url] });
    const early = client.subscribe({ agent_ids: ["a"] });
    expect((await early).filters.agent_ids).to.deep.equal(["a"]);

    const refused = await client.subscribe({ project_ids: ["foreign"] }).catch((error: unknown) => error);
    expect(refused).to.include({ name: "SubscriptionRefused", code: "FORBIDDEN" });

    const again = next(client, "FILTERS_UPDATED");
    one.last.conn.close();
    await again;
    expect(one.last.handshake.query).to.include({ agent_ids: "a" });
    expect(asked).to.deep.equal([{ agent_ids: ["a"] }, { project_ids: ["foreign"] }, { agent_ids: ["a"] }]);

    const late = client.subscribe({ agent_ids: ["b"] }).catch((error: unknown) => (error as Error).message);
    client.close();
    expect(await late).to.equal("closed by the application");
  });
});
