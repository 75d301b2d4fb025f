import { randomBytes } from "node:crypto";
import { AGENTS_NAMESPACE } from "@agentwire/shared";
import { expect } from "chai";
import { io } from "socket.io-client";
import { startCluster } from "../harness/cluster.js";
import { needs } from "../harness/needs.js";
import { SecretSearch, secrets, seenByOutsiders } from "../harness/secrets.js";
import { onTeardown } from "../harness/teardown.js";
import { SERVICE_KEY, token } from "../harness/token.js";
import { until } from "../harness/wait.js";

const CHANGE = {
  event_type: "AGENT_STATUS_CHANGED",
  agent_id: "a1",
  project_id: "p1",
  payload: { new_status: "working" },
};

describe("after all tests", () => {
  it("[contract] these are the last tests of a run: .mocharc.json sorts the files", function () {
    const suite = this.test?.parent;
    expect(suite?.parent?.suites.at(-1)).to.equal(suite);
  });

  it("[D26] what is planted is found: whole, cut, between other letters; and nothing else is", () => {
    const search = new SecretSearch();
    const random = (bytes: number) => randomBytes(bytes).toString("base64url");
    const [header = "", payload = "", signature = ""] = token("user-1", ["p1"]).split(".");
    const signatures = [...Array.from({ length: 5000 }, () => random(32)), signature];
    for (const one of signatures) search.addToken(`${header}.${payload}.${one}`);
    const pid = random(15);
    search.add("a session id", pid);
    search.add("a key", SERVICE_KEY);
    search.add("a password", "correct horse battery");
    search.add("what is too short", "short");
    for (let n = 0; n < 20_000; n++) search.see("the log", `{"id":"${random(24)}","msg":"short"}`);

    const planted: [text: string, ...found: string[]][] = [
      [`{"url":"/?token=${header}.${payload}.${signatures[2500]}&EIO=4"}`, "part of a token", "a token"],
      [`…${signature.slice(0, 20)}`, "a token"],
      [`x_${signature}_y`, "a token"],
      [`seen: ${payload}`, "part of a token"],
      [`${header}.e30.`, "part of a token"],
      [`session ${pid} is foreign`, "a session id"],
      [`key=${SERVICE_KEY};`, "a key"],
      ["password: correct horse battery staple", "a password"],
      ["password: correct horse battle"],
      [signature.slice(0, 15)],
    ];
    for (const [text] of planted) search.see(text, text);
    const leaks = search.find();
    for (const [text, ...found] of planted) {
      const whats = leaks.filter(({ where }) => where === text).map(({ what }) => what);
      expect([...new Set(whats)], text).to.deep.equal(found);
    }
    expect(leaks.filter(({ where }) => where === "the log")).to.deep.equal([]);
  });

  describe("everything that was used", () => {
    needs("REDIS");

    it("[D26] is looked for: what goes on at the door is kept, from every side", async () => {
      const cluster = await startCluster({ nodes: 1 });
      const { url } = cluster.node(1);
      const before = secrets.seen;
      const grown = (where: string) => (secrets.seen.get(where) ?? 0) > (before.get(where) ?? 0);

      const viewer = await (await cluster.viewer()).joined();
      await viewer.subscribe({ agent_ids: [], project_ids: ["foreign"], event_types: [] });
      for (const [transport, key] of [
        ["polling", { secret: "another-secret-of-the-tests-0123" }],
        ["websocket", { expiresIn: -1 }],
        ["polling", { audience: "nobody" }],
      ] as const) {
        const query = { token: token("user-1", ["p1"], key) };
        const socket = io(url + AGENTS_NAMESPACE, { transports: [transport], query, reconnection: false });
        onTeardown(() => void socket.disconnect());
        await new Promise((resolve) => socket.on("connect_error", resolve));
      }
      for (const query of [`token=${token("user-1", ["p1"])}&agent_ids=,`, `token=${token("u", [])}x`]) {
        const answer = await fetch(`${url}/socket.io/?EIO=4&transport=polling&${query}`);
        expect(answer.status).to.be.within(400, 401);
        seenByOutsiders(await answer.text());
      }
      expect((await cluster.post(CHANGE, { key: `${SERVICE_KEY}x` })).status).to.equal(403);
      expect((await cluster.post(CHANGE)).status).to.equal(202);
      viewer.socket.io.engine.close();
      await until("it is back", () => viewer.connects.length === 2);
      viewer.socket.emit("NO_SUCH_EVENT", token("user-1", ["p1"]));
      await until("it was told that there is no such event", () => viewer.payloads("ERROR").length === 1);
      await cluster.stopCleanly();
      await until("the log was kept", () => grown("the log of node-1"));
      expect(grown("an answer")).to.equal(true);
    });

    it("[D26] no token, key or session id is in any log, metric, audit entry or answer", () => {
      const control = "the control";
      seenByOutsiders(token("user-1", ["p1"]), control);
      const all = secrets.find();
      expect(all.some(({ where, what }) => where === control && what === "a token")).to.equal(true);

      const leaks = all.filter(({ where }) => where !== control);
      const told = leaks.slice(0, 20).map(({ what, where, text }) => `${what} in ${where}: ${text}`);
      const seen = [...secrets.seen].map(([where, texts]) => `${texts} from ${where}`).join(", ");
      expect(told, `${leaks.length} leaks of ${secrets.size} secrets; looked at: ${seen}`).to.deep.equal([]);
    });
  });
});
