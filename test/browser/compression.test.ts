import { createRequire } from "node:module";
import { dirname, join } from "node:path";
import { AGENTS_NAMESPACE, type Envelope } from "@agentwire/shared";
import { expect } from "chai";
import type { io as connect } from "socket.io-client";
import { openChromium } from "../harness/chromium.js";
import { startCluster } from "../harness/cluster.js";
import { needs } from "../harness/needs.js";
import { token } from "../harness/token.js";
import { until } from "../harness/wait.js";
import { openWire } from "../harness/wire.js";

/** What the stock client is in a page without a bundler: one file for each encoding. */
const FOLDER = join(dirname(createRequire(import.meta.url).resolve("socket.io-client/package.json")), "dist");
const TEXT = 1;
const BINARY = 2;

type StatusChange = Envelope<"AGENT_STATUS_CHANGED">;
/** The page, as far as these tests use it. */
interface Page {
  io: typeof connect;
  heard: Envelope[];
}

const prose = "error: cannot find “größe” in 模块 🚀 at line 12\n".repeat(300).slice(0, 12_000);
const message = (n: number) => (n % 4 === 3 ? `short ${n}` : `${n} ${prose}`);

describe("a browser", () => {
  needs("CHROMIUM");
  needs("REDIS");

  for (const [encoding, file, opcode, transport] of [
    ["json", "socket.io.min.js", TEXT, "websocket"],
    ["messagepack", "socket.io.msgpack.min.js", BINARY, "websocket"],
    ["json", "socket.io.min.js", TEXT, "polling"],
  ] as const) {
    it(`[D22] over ${transport}, ${encoding}: Chromium reads what comes compressed and what does not`, async () => {
      const cluster = await startCluster({ nodes: 1, settings: { CORS_ORIGINS: "*" } });
      const node = cluster.node(1);
      const wire = await openWire(node);
      const browser = await openChromium();
      const page = await browser.newPage();
      await page.goto(`${node.url}/healthz`);
      await page.addScriptTag({ path: join(FOLDER, file) });
      await page.evaluate(
        ({ url, query, transport }) => {
          const window = globalThis as unknown as Page;
          window.heard = [];
          const socket = window.io(url, { transports: [transport], query });
          socket.onAny((_name: string, envelope: Envelope) => window.heard.push(envelope));
        },
        {
          url: wire.url + AGENTS_NAMESPACE,
          query: { token: token("user-1", ["p1"]), encoding },
          transport: transport as string,
        },
      );
      const heard = () => page.evaluate(() => (globalThis as unknown as Page).heard);
      await until("it has joined", async () =>
        (await heard()).some(({ event_type }) => event_type === "SNAPSHOT"),
      );

      const worker = cluster.worker();
      const published: { sequence_id: string; message: string }[] = [];
      for (let n = 0; n < 20; n++) {
        const text = message(n);
        const change = { agent_id: "a1", project_id: "p1", new_status: "working" as const, message: text };
        published.push({ sequence_id: (await worker.agentStatus(change)).sequence_id, message: text });
      }
      const changes = async () =>
        (await heard()).filter(({ event_type }) => event_type === "AGENT_STATUS_CHANGED") as StatusChange[];
      await until("everything is there", async () => (await changes()).length >= published.length);
      expect(
        (await changes()).map(({ sequence_id, payload }) => ({ sequence_id, message: payload.message })),
      ).to.deep.equal(published);

      if (transport === "polling") {
        expect(wire.lines.some(({ answer }) => /Content-Encoding: gzip/i.test(answer))).to.equal(true);
        return;
      }
      const line = wire.lines.find(({ answer }) => answer.startsWith("HTTP/1.1 101"));
      expect(line?.answer).to.match(/permessage-deflate/);
      const frames = line?.frames.slice(-published.length) ?? [];
      expect(frames.map((frame) => frame.opcode)).to.deep.equal(published.map(() => opcode));
      expect(frames.map(({ compressed }) => compressed)).to.deep.equal(
        published.map((one) => one.message.length > 1024),
      );
    });
  }
});
