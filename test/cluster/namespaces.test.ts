import { once } from "node:events";
import { createServer } from "node:http";
import type { AddressInfo } from "node:net";
import { AGENTS_NAMESPACE } from "@agentwire/shared";
import { expect } from "chai";
import { Server } from "socket.io";
import { WebSocket } from "ws";
import { parser } from "../../server/src/gate/parser.js";
import { refuseRoot } from "../../server/src/node/agents.js";
import { openBare } from "../harness/bare-viewer.js";
import { sharedCluster } from "../harness/cluster.js";
import { onTeardown } from "../harness/teardown.js";
import { token } from "../harness/token.js";
import { until } from "../harness/wait.js";

const head = `${AGENTS_NAMESPACE},`;

describe("namespaces that a client may not use", () => {
  const cluster = sharedCluster({ nodes: 1 });
  const url = () => {
    const query = new URLSearchParams({ EIO: "4", transport: "websocket", token: token("raw", ["p1"]) });
    return `ws://127.0.0.1:${cluster().node(1).port}/socket.io/?${query}`;
  };

  for (const [what, ask] of [
    ["an event for a namespace that it has not joined", `42/ws/terminal/t1,["SUBSCRIBE",{}]`],
    ["a DISCONNECT from one that it has not joined", "41/nope,"],
    ["a second CONNECT", `40${head}`],
    ["another second CONNECT", `40${head}{"pid":"x"}`],
    ["a packet that only a server says", `0{"sid":"x"}`],
    ["the end of a polling connection", "1"],
    ["an upgrade that is none", "5"],
    ["a noop", "6"],
    ["a ping", "2"],
    ["a pong that nobody asked for", "3"],
    ["a packet of no known type", "x"],
  ] as const) {
    it(`[D13] ${what}: the connection is closed`, async () => {
      const one = await openBare(cluster().node(1).url, {});
      one.ws.send(ask);
      await until("it is closed", () => one.closed.length > 0);
      expect(one.closed).to.have.length(1);
    });
  }

  it("[D13] DISCONNECT and CONNECT again and again: not for long", async () => {
    const one = await openBare(cluster().node(1).url, { user: "again" });
    let joins = 0;
    one.ws.on("message", (data: Buffer) => {
      if (!data.toString().startsWith(`40${head}{"sid"`)) return;
      joins++;
      one.ws.send(`41${head}`);
      // Socket.IO takes a DISCONNECT a moment later than a CONNECT in the same piece.
      setTimeout(() => one.ws.send(`40${head}`), 5);
      // So that it is too often also on a machine on which each round takes its time.
      for (const other of ["/one", "/two"]) one.ws.send(`40${other},`);
    });
    one.ws.send(`41${head}`);
    setTimeout(() => one.ws.send(`40${head}`), 5);
    await until("it is closed", () => one.closed.length > 0);
    expect(joins).to.be.within(5, 100);
    const { client, keys } = cluster();
    await until("nothing is left of it", async () => {
      return (await client().exists(keys.userConnections("again"))) === 0;
    });
    expect(cluster().node(1).stderr).to.equal("");
  });

  it("[D13] thousands of CONNECTs: none of the namespaces exists afterwards, and the connection is closed", async () => {
    const http = createServer().listen(0, "127.0.0.1");
    await once(http, "listening");
    const server = new Server(http, { parser: parser as never });
    onTeardown(() => server.close());
    refuseRoot(server);
    const { port } = http.address() as AddressInfo;
    const ws = new WebSocket(`ws://127.0.0.1:${port}/socket.io/?EIO=4&transport=websocket`);
    onTeardown(() => ws.terminate());
    const answers: string[] = [];
    ws.on("message", (data: Buffer) => answers.push(data.toString()));
    await once(ws, "open");
    for (let n = 0; n < 5000; n++) ws.send(`40/unknown/${n},`);
    await once(ws, "close");
    expect(answers.filter((text) => text.includes("NAMESPACE_UNKNOWN")).length).to.be.within(1, 100);
    expect([...server._nsps.keys()]).to.deep.equal(["/"]);
  });

  it("[D13] a connection without a namespace is closed after ten seconds: one that never joined, and one that left", async () => {
    const never = new WebSocket(url());
    onTeardown(() => never.terminate());
    const began = performance.now();
    const left = await openBare(cluster().node(1).url, {});
    left.ws.send(`41${head}`);
    const back = await openBare(cluster().node(1).url, {});
    back.ws.send(`41${head}`);
    setTimeout(() => back.ws.send(`40${head}`), 1000);
    const ends = await Promise.all(
      [never, left.ws].map(async (ws) => {
        await once(ws, "close");
        return performance.now() - began;
      }),
    );
    for (const end of ends) expect(end).to.be.within(9500, 12_000);
    expect(back.closed).to.deep.equal([]);
  });
});
