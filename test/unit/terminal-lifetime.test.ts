import { once } from "node:events";
import { createServer } from "node:http";
import type { AddressInfo } from "node:net";
import { setTimeout as pause } from "node:timers/promises";
import { expect } from "chai";
import { Server } from "socket.io";
import { WebSocket } from "ws";
import { freeWhenEmpty } from "../../server/src/node/terminal-lifetime.js";
import { onTeardown } from "../harness/teardown.js";
import { until } from "../harness/wait.js";

describe("namespaces that are there as long as somebody is in them", () => {
  it("[D29] refused, left, cut off while they are judged, two at once: none stays, none is lost", async () => {
    const http = createServer().listen(0, "127.0.0.1");
    await once(http, "listening");
    const io = new Server(http);
    onTeardown(() => io.close());
    let judged = 0;
    let closed = 0;
    const parent = io.of((name, _auth, next) => next(null, name.startsWith("/t/")));
    const namespaces = freeWhenEmpty(parent);
    parent.use(async (socket, next) => {
      const { close } = socket.nsp.adapter;
      socket.nsp.adapter.close = () => {
        closed++;
        return close.call(socket.nsp.adapter);
      };
      await pause(socket.handshake.auth.ms ?? 5);
      judged++;
      next(socket.nsp.name.endsWith("no") ? new Error("no") : undefined);
    });
    const open = async () => {
      const { port } = http.address() as AddressInfo;
      const ws = new WebSocket(`ws://127.0.0.1:${port}/socket.io/?EIO=4&transport=websocket`);
      onTeardown(() => ws.terminate());
      const texts: string[] = [];
      ws.on("message", (data: Buffer) => texts.push(data.toString()));
      await until("it is open", () => texts.length > 0);
      ws.send("40");
      return {
        ws,
        texts,
        has: (text: string) => until(text, () => texts.some((one) => one.startsWith(text))),
      };
    };
    const [one, two, third] = await Promise.all([open(), open(), open()]);
    for (const name of ["/t/no", "/other"]) one.ws.send(`40${name},`);
    for (const name of ["/t/no", "/other"]) await one.has(`44${name}`);
    expect([...io._nsps.keys()]).to.deep.equal(["/"]);
    one.ws.send("40/t/a,");
    await one.has("40/t/a");
    // The first one leaves while another one is being judged: that one must not be left in a namespace that is gone.
    two.ws.send('40/t/a,{"ms":100}');
    third.ws.send('40/t/b,{"ms":100}');
    await until("they are being judged", () => namespaces.size === 2);
    one.ws.send("41/t/a,");
    third.ws.terminate();
    await two.has("40/t/a");
    await until("all are judged", () => judged === 4);
    await until("the cut off one is gone", () => namespaces.size === 1);
    io.of("/t/a").emit("hello");
    await two.has('42/t/a,["hello"]');
    two.ws.terminate();
    await until("the last one is gone", () => namespaces.size === 0);
    expect([...io._nsps.keys()]).to.deep.equal(["/"]);
    expect(closed).to.be.at.least(3);
  });
});
