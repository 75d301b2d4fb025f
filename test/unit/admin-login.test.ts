import { createServer } from "node:http";
import type { AddressInfo } from "node:net";
import bcrypt from "bcryptjs";
import { expect } from "chai";
import { pino } from "pino";
import { Server } from "socket.io";
import { io } from "socket.io-client";
import { guardLogin, parseCredentials, passwordHash } from "../../server/src/ops/admin/login.js";
import { onTeardown } from "../harness/teardown.js";
import { until } from "../harness/wait.js";

describe("the login of operators", () => {
  it("[D13] takes texts of a bounded length, and nothing where one part is of another type", () => {
    const login = { username: "operator", password: "secret" };
    expect(parseCredentials(login)).to.deep.equal([login]);
    expect(parseCredentials({ sessionId: null, ...login })).to.deep.equal([login]);
    expect(parseCredentials({ sessionId: "s", ...login, more: 1 })).to.deep.equal([
      { sessionId: "s" },
      login,
    ]);
    expect(parseCredentials({ sessionId: "s", username: "operator" })).to.deep.equal([{ sessionId: "s" }]);
    for (const bad of [
      undefined,
      null,
      "",
      0,
      true,
      [],
      ["secret"],
      {},
      { toString: "secret" },
      "x".repeat(257),
    ])
      for (const part of ["username", "password"])
        expect(parseCredentials({ ...login, [part]: bad })).to.deep.equal([]);
    for (const sessionId of [0, true, [], ["s"], {}, "x".repeat(65)])
      expect(parseCredentials({ ...login, sessionId })).to.deep.equal([]);
    expect(
      parseCredentials(JSON.parse('{"__proto__":{"username":"operator","password":"secret"}}')),
    ).to.deep.equal([]);
  });

  it("[D27] a setting is a password, which is hashed, or a hash, which is kept", async () => {
    const hash = await bcrypt.hash("secret", 4);
    expect(await passwordHash(hash)).to.equal(hash);
    for (const setting of ["secret", hash.slice(1), `${hash}x`, "$2b$10$short"])
      expect(await bcrypt.compare(setting, await passwordHash(setting))).to.equal(true);
  });

  it("[D13] what comes after it sees only what was judged: never a name without a password", async () => {
    const http = createServer();
    const server = new Server(http);
    const seen: unknown[] = [];
    const namespace = server.of("/admin");
    guardLogin(namespace, {
      isOperators: () => true,
      address: () => "127.0.0.1",
      logins: {
        sessionExists: async (id) => id === "good",
        saveSession: async () => {},
        attempt: async () => true,
      },
      logger: pino({ level: "silent" }),
    });
    namespace.use((socket, next) => {
      seen.push(socket.handshake.auth);
      next(new Error("enough"));
    });
    await new Promise<void>((resolve) => http.listen(0, "127.0.0.1", resolve));
    onTeardown(() => server.close());
    const url = `http://127.0.0.1:${(http.address() as AddressInfo).port}/admin`;
    const login = { username: "operator", password: "secret" };
    for (const auth of [
      { sessionId: "good", username: "operator" },
      { sessionId: "bad", username: "operator" },
      { sessionId: "bad", ...login, more: 1 },
      { username: "operator", password: null },
      { sessionId: "good", ...login },
    ]) {
      const client = io(url, { auth, reconnection: false, forceNew: true });
      let refused = false;
      client.on("connect_error", () => {
        refused = true;
      });
      await until("it is judged", () => refused);
      client.disconnect();
    }
    expect(seen).to.deep.equal([{ sessionId: "good" }, login, { sessionId: "good" }]);
  });
});
