import { once } from "node:events";
import { createServer } from "node:http";
import { type AddressInfo, connect } from "node:net";
import { refusal } from "@agentwire/shared";
import { expect } from "chai";
import { answerUpgrade } from "../../server/src/door/answer.js";
import { onTeardown } from "../harness/teardown.js";
import { until } from "../harness/wait.js";

describe("the answer to an upgrade", () => {
  it("[D12] closes the connection, also of a client that keeps its side open and goes on talking", async () => {
    const http = createServer().on("upgrade", (_, socket) => answerUpgrade(socket, refusal("UNAUTHORIZED")));
    await once(http.listen(0, "127.0.0.1"), "listening");
    onTeardown(() => void http.close());
    const client = connect({
      port: (http.address() as AddressInfo).port,
      host: "127.0.0.1",
      allowHalfOpen: true,
    });
    onTeardown(() => void client.destroy());
    client.on("error", () => {});
    client.write("GET / HTTP/1.1\r\nHost: node\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\nand more");
    let text = "";
    client.on("data", (data) => {
      text += data;
    });
    await until("it is answered", () => text.endsWith("}"));
    expect(text).to.match(/^HTTP\/1.1 401 /);
    const open = () => new Promise<number>((resolve) => http.getConnections((_, count) => resolve(count)));
    await until("its socket is gone", async () => (await open()) === 0, 5000);
  });
});
