import { randomBytes } from "node:crypto";
import { readFileSync } from "node:fs";
import { deflateRawSync } from "node:zlib";
import { AGENTS_NAMESPACE, type Envelope } from "@agentwire/shared";
import { expect } from "chai";
import msgpack from "socket.io-msgpack-parser";
import { openBare } from "../harness/bare-viewer.js";
import { type Cluster, sharedCluster, startCluster } from "../harness/cluster.js";
import { onTeardown } from "../harness/teardown.js";
import { token } from "../harness/token.js";
import { Viewer, type ViewerOptions } from "../harness/viewer.js";
import { until } from "../harness/wait.js";
import { openWire, type WireLine } from "../harness/wire.js";

const MIB = 1_048_576;
const LARGE = 12_000;
/** As text of a program is: it repeats itself, in several scripts. */
const prose = (n: number, length = LARGE) =>
  `${n} ${"error: cannot find “größe” in 模块 🚀 at line 12\n".repeat(length)}`.slice(0, length);

const change = (message: string) => ({
  agent_id: "a1",
  project_id: "p1",
  new_status: "working" as const,
  message,
});

/** Publishes small and large ones in turn: sizes on both sides of 1 KB, and texts that nothing makes smaller. */
async function publishSizes(cluster: Cluster) {
  const worker = cluster.worker();
  const texts = [
    "short",
    prose(1, 300),
    prose(2, 2000),
    prose(3),
    randomBytes(6000).toString("base64"),
    "🚀".repeat(3000),
    "short again",
  ];
  const published: { sequence_id: string; message: string }[] = [];
  for (const message of texts)
    published.push({ sequence_id: (await worker.agentStatus(change(message))).sequence_id, message });
  return published;
}

const messagesOf = (changes: Envelope<"AGENT_STATUS_CHANGED">[]) =>
  changes.map(({ sequence_id, payload }) => ({ sequence_id, message: payload.message }));

/** The events in one answer of Engine.IO's polling. */
const eventsIn = (answer: string): Envelope[] =>
  answer
    .split("\x1e")
    .filter((packet) => packet.startsWith("42"))
    .map((packet) => JSON.parse(packet.slice(packet.indexOf("[")))[1]);

const TEXT = 1;
const BINARY = 2;

describe("compression", () => {
  const cluster = sharedCluster({ nodes: 2 });
  let user = 0;

  async function joined(options: ViewerOptions) {
    const wire = await openWire(cluster().node(1));
    const viewer = new Viewer(wire.url, { user: `user-${user++}`, ...options });
    onTeardown(() => {
      viewer.socket.disconnect();
    });
    await viewer.joined();
    return { viewer, wire };
  }
  /** What the node wrote for the events, after what it said at the beginning. */
  async function framesOf({ viewer, wire }: Awaited<ReturnType<typeof joined>>) {
    const line = wire.lines.at(-1) as WireLine;
    const before = { frames: line.frames.length, bytes: line.bytes };
    const published = await publishSizes(cluster());
    await viewer.has(published.map(({ sequence_id }) => sequence_id));
    expect(messagesOf(viewer.raw)).to.deep.equal(published);
    const frames = line.frames.slice(before.frames);
    return { line, published, frames, bytes: line.bytes - before.bytes };
  }

  for (const [encoding, opcode, options] of [
    ["JSON", TEXT, {}],
    ["MessagePack", BINARY, { query: { encoding: "messagepack" }, socket: { parser: msgpack } }],
  ] as const) {
    it(`[D22] a stock client gets ${encoding} over 1 KB compressed, less as it is, and reads both`, async () => {
      const one = await joined(options);
      const { frames, published, bytes, line } = await framesOf(one);
      expect(line.answer).to.match(/permessage-deflate/);
      expect(frames.map(({ opcode }) => opcode)).to.deep.equal(published.map(() => opcode));
      // The envelope is below 700 bytes.
      const expected = published.map(({ message }) => Buffer.byteLength(message) > 1024);
      expect(frames.map(({ compressed }) => compressed)).to.deep.equal(expected);
      const content = published.reduce((sum, { message }) => sum + Buffer.byteLength(message), 0);
      expect(bytes).to.be.below(content / 2);
      expect(frames[3]?.length, "12,000 characters").to.be.below(1200);
    });
  }

  it("[D22] a client that did not offer it gets everything as it is", async () => {
    const one = await joined({ socket: { perMessageDeflate: false } as ViewerOptions["socket"] & object });
    const { frames, line } = await framesOf(one);
    expect(line.answer).to.not.match(/permessage-deflate/);
    expect(frames.filter(({ compressed }) => compressed)).to.deep.equal([]);
  });

  for (const perMessageDeflate of [
    { serverMaxWindowBits: 9 },
    { serverMaxWindowBits: 15 },
    { clientMaxWindowBits: 9 },
    { serverNoContextTakeover: true, clientNoContextTakeover: true },
    { clientMaxWindowBits: 10, serverMaxWindowBits: 10, serverNoContextTakeover: true },
  ]) {
    it(`[D22] one that offers ${JSON.stringify(perMessageDeflate)} reads everything`, async () => {
      const wire = await openWire(cluster().node(1));
      const client = await openBare(wire.url, { user: `user-${user++}`, perMessageDeflate });
      const published = await publishSizes(cluster());
      await until("everything", () => client.changes.length >= published.length);
      expect(messagesOf(client.changes)).to.deep.equal(published);
      expect(wire.lines[0]?.answer).to.match(/permessage-deflate/);
      // And the node reads what it compresses.
      client.ws.send(
        `42${AGENTS_NAMESPACE},7["SUBSCRIBE",{"agent_ids":["${"x".repeat(100)}"]}]`.padEnd(3000),
        {
          compress: true,
        },
      );
      await until("its answer", () =>
        client.texts.some((text) => text.startsWith(`43${AGENTS_NAMESPACE},7`)),
      );
    });
  }

  it("[D22] on polling, answers over 1 KB are gzip for who takes it, and as they are for who does not", async () => {
    const { url } = cluster().node(1);
    for (const encoding of ["gzip", "identity"]) {
      const query = new URLSearchParams({
        EIO: "4",
        transport: "polling",
        token: token(`user-${user++}`, ["p1"]),
      });
      const opened = await (await fetch(`${url}/socket.io/?${query}`)).text();
      query.set("sid", JSON.parse(opened.slice(1)).sid);
      const poll = async () => {
        const answer = await fetch(`${url}/socket.io/?${query}`, {
          headers: { "Accept-Encoding": encoding },
        });
        return { encoding: answer.headers.get("Content-Encoding"), text: await answer.text() };
      };
      await fetch(`${url}/socket.io/?${query}`, { method: "POST", body: `40${AGENTS_NAMESPACE},` });
      let beginning = "";
      await until("it has joined", async () => {
        beginning += (await poll()).text;
        return beginning.includes('"SNAPSHOT"');
      });

      const { sequence_id: small } = await cluster().worker().agentStatus(change("short"));
      const first = await poll();
      expect(first.text).to.include(small);
      expect(first.encoding).to.equal(null);
      const message = prose(0);
      const { sequence_id: large } = await cluster().worker().agentStatus(change(message));
      const second = await poll();
      expect(second.encoding).to.equal(encoding === "gzip" ? "gzip" : null);
      const [envelope] = eventsIn(second.text);
      expect(envelope).to.deep.include({ sequence_id: large });
      expect((envelope as Envelope<"AGENT_STATUS_CHANGED">).payload.message).to.equal(message);
    }
  });

  it("[D22] a resume brings the same, compressed", async () => {
    const one = await joined({});
    one.wire.lines[0]?.cut();
    const published = await publishSizes(cluster());
    await one.viewer.has(published.map(({ sequence_id }) => sequence_id));
    expect(messagesOf(one.viewer.raw)).to.deep.equal(published);
    expect(one.viewer.connects).to.deep.equal([false, true]);
    expect(one.wire.lines.at(-1)?.frames.some(({ compressed }) => compressed)).to.equal(true);
  });
});

describe("compressed messages from a client", () => {
  const MAX = 65_536;
  const TEXT_COMPRESSED = 0x41;
  const bomb = deflateRawSync(Buffer.alloc(100 * MIB, "x"));

  for (const [what, pieces] of [
    ["in one frame", [bomb]],
    ["in fragments", [bomb.subarray(0, 50), bomb.subarray(50, 60_000), bomb.subarray(60_000)]],
  ] as const) {
    it(`[D22] one that becomes larger than WS_MAX_MESSAGE_BYTES, ${what}, closes its connection with 1009 and harms nobody`, async () => {
      const cluster = await startCluster({
        nodes: 1,
        settings: { WS_MAX_MESSAGE_BYTES: String(MAX) },
      });
      const node = cluster.node(1);
      const good = await (await cluster.viewer({ user: "good" })).joined();
      const before = peakOf(node.pid);
      const bad = await Promise.all(
        Array.from({ length: 20 }, (_, n) =>
          openBare(node.url, { user: `bad-${n}`, perMessageDeflate: true }),
        ),
      );
      for (const one of bad) {
        for (const [n, piece] of pieces.entries())
          one.writeFrame(piece, { first: n === 0 ? TEXT_COMPRESSED : 0, fin: n === pieces.length - 1 });
      }
      await until("all are closed", () => bad.every(({ closed }) => closed.length > 0));
      expect(bad.map(({ closed }) => closed)).to.deep.equal(bad.map(() => [1009]));
      // Inflated they would be 2,000 MiB.
      expect((peakOf(node.pid) - before) / MIB, "MiB more at its peak").to.be.below(100);

      const { sequence_id } = await cluster.worker().agentStatus(change("afterwards"));
      await good.has([sequence_id]);
      expect(good.connects).to.deep.equal([false]);
      expect(good.disconnects).to.equal(0);
    });
  }

  it("[D22] one just within it is taken", async () => {
    const cluster = await startCluster({ nodes: 1, settings: { WS_MAX_MESSAGE_BYTES: String(MAX) } });
    const one = await openBare(cluster.node(1).url, { perMessageDeflate: { threshold: 0 } });
    const ask = (length: number) => `42${AGENTS_NAMESPACE},7["SUBSCRIBE",{}]`.padEnd(length);
    one.ws.send(ask(MAX));
    await until("its answer", () => one.texts.some((text) => text.startsWith(`43${AGENTS_NAMESPACE},7`)));
    one.ws.send(ask(MAX + 1));
    await until("it is closed", () => one.closed.length > 0);
    expect(one.closed).to.deep.equal([1009]);
  });

  it("[D22] what is no deflated data closes its connection, and no other", async () => {
    const cluster = await startCluster({ nodes: 1 });
    const good = await (await cluster.viewer({ user: "good" })).joined();
    const bad = await openBare(cluster.node(1).url, { user: "bad", perMessageDeflate: true });
    bad.writeFrame(Buffer.from("this is not deflated"), { first: TEXT_COMPRESSED });
    await until("it is closed", () => bad.closed.length > 0);
    const { sequence_id } = await cluster.worker().agentStatus(change("afterwards"));
    await good.has([sequence_id]);
    expect(good.disconnects).to.equal(0);
  });
});

/** The most that a process had in memory so far. */
function peakOf(pid: number): number {
  return Number(/^VmHWM:\s+(\d+) kB$/m.exec(readFileSync(`/proc/${pid}/status`, "utf8"))?.[1]) * 1024;
}
