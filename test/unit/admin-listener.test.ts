import { once } from "node:events";
import { connect } from "node:net";
import { expect } from "chai";
import express from "express";
import { pino } from "pino";
import { answerRequest, answerUpgrade } from "../../server/src/door/answer.js";
import { type AdminListenerOptions, openAdminListener } from "../../server/src/ops/admin/listener.js";
import { onTeardown } from "../harness/teardown.js";

const usual: AdminListenerOptions = {
  host: "127.0.0.1",
  port: 0,
  exact: true,
  engine: undefined,
  routes: [],
  allows: () => true,
  refuse: answerRequest,
  refuseUpgrade: answerUpgrade,
  logger: pino({ level: "silent" }),
};

async function open(options: Partial<AdminListenerOptions>): Promise<string> {
  const listener = await openAdminListener({ ...usual, ...options });
  onTeardown(() => listener.close());
  return `http://127.0.0.1:${listener.port}`;
}

describe("the operators' listener alone", () => {
  it("[D27] serves what else is for operators, with an admin UI or without", async () => {
    const router = express.Router().get("/metrics", (_req, res) => {
      res.type("text/plain").send("connections 3\n");
    });
    const answer = await fetch(`${await open({ routes: [router] })}/metrics`);
    expect([answer.status, await answer.text()]).to.deep.equal([200, "connections 3\n"]);
  });

  it("[D27] a route that fails is INTERNAL, and the next request is answered", async () => {
    const router = express.Router().get("/metrics", async () => {
      throw new Error("a password in an error");
    });
    const url = await open({ routes: [router] });
    for (const path of ["/metrics", "/metrics"]) {
      const answer = await fetch(url + path);
      const error = { code: "INTERNAL", message: "the node failed on this request", retry: "later" };
      expect([answer.status, await answer.json()]).to.deep.equal([500, { error }]);
    }
  });

  it("[D18] an address that is not this machine's is an error of one line", async () => {
    const failed = await open({ host: "192.0.2.1", exact: false }).catch((error: Error) => error.message);
    expect(failed).to.equal("ADMIN_PORT: cannot listen on 192.0.2.1:0: EADDRNOTAVAIL");
  });

  it("[D27] closes without a wait for who is in the middle of a request", async () => {
    const listener = await openAdminListener({ ...usual });
    const half = connect(listener.port, "127.0.0.1");
    await once(half, "connect");
    half.write("GET /metrics HTTP/1.1\r\nHost:");
    // Another one's answer: the first bytes of the half request have come by then.
    await fetch(`http://127.0.0.1:${listener.port}/metrics`);
    const closed = once(half, "close");
    listener.close();
    await closed;
  });
});
