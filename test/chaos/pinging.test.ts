import { connect, type Socket } from "node:net";
import { AGENTS_NAMESPACE } from "@agentwire/shared";
import { expect } from "chai";
import { startCluster } from "../harness/cluster.js";
import { idsOf, startFlood } from "../harness/flood.js";
import { liveBytes, MEASURED } from "../harness/memory.js";
import type { NodeProcess } from "../harness/node.js";
import { maskedFrame, PING, TEXT } from "../harness/raw-frame.js";
import { onTeardown } from "../harness/teardown.js";
import { token } from "../harness/token.js";
import { until } from "../harness/wait.js";

const MIB = 1_048_576;
const COST = 20 * MIB;
/** With older versions of ws, this many bytes of pings made a node hold more than a gigabyte. */
const SENT = 64 * MIB;
const PIECE = 65_536;

/** Joined over TCP, and from then on it reads nothing. */
async function openDeaf(node: NodeProcess, user: string): Promise<Socket> {
  const query = new URLSearchParams({ EIO: "4", transport: "websocket", token: token(user, ["p1"]) });
  const socket = connect(node.port, "127.0.0.1");
  onTeardown(() => {
    socket.destroy();
  });
  socket.on("error", () => {});
  let heard = "";
  socket.on("data", (data) => {
    heard += data.toString("latin1");
  });
  socket.write(
    `GET /socket.io/?${query} HTTP/1.1\r\nHost: node\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n` +
      "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: MDEyMzQ1Njc4OWFiY2RlZg==\r\n\r\n",
  );
  socket.write(maskedFrame(TEXT, Buffer.from(`40${AGENTS_NAMESPACE},`)));
  await until("it has joined", () => heard.includes('"SNAPSHOT"'));
  socket.removeAllListeners("data").pause();
  return socket;
}

/** Ready frames, as many as fit into one piece. */
const pieceOf = (frame: Buffer) => Buffer.concat(Array(Math.ceil(PIECE / frame.length)).fill(frame));

describe("a client that pings and never reads", () => {
  for (const [what, piece] of [
    ["empty pings", pieceOf(maskedFrame(PING, Buffer.alloc(0)))],
    ["pings of 125 bytes", pieceOf(maskedFrame(PING, Buffer.alloc(125, "p")))],
    ["Engine.IO's pongs, that nobody asked for", pieceOf(maskedFrame(TEXT, Buffer.from("3")))],
    [
      "pings and pongs in turn",
      pieceOf(Buffer.concat([maskedFrame(PING, Buffer.alloc(60)), maskedFrame(TEXT, Buffer.from("3"))])),
    ],
    ["Engine.IO's pings, which a client does not send", pieceOf(maskedFrame(TEXT, Buffer.from("2")))],
  ] as const) {
    it(`[D21] ${what}: it costs its node less than 20 MB, and the others nothing`, async function () {
      this.timeout(120_000);
      const cluster = await startCluster({ nodes: 1, settings: MEASURED });
      const node = cluster.node(1);
      const viewer = await (await cluster.viewer({ user: "healthy" })).joined();
      const load = startFlood(cluster.worker(), { perSecond: 50 });
      onTeardown(async () => {
        await load.stop();
      });
      const bad = await openDeaf(node, "bad");
      const base = await liveBytes(node);

      let peak = 0;
      let sent = 0;
      for (let pieces = 0; sent < SENT && !bad.destroyed && peak < 2 * COST; pieces++) {
        await new Promise<void>((resolve) => bad.write(piece, () => resolve()));
        sent += piece.length;
        if (pieces % 64 === 63) peak = Math.max(peak, (await liveBytes(node)) - base);
      }
      peak = Math.max(peak, (await liveBytes(node)) - base);
      if (process.env.FIGURES)
        console.log(
          `      ${(sent / MIB).toFixed(0)} MiB sent, closed ${bad.destroyed}, peak ${(peak / MIB).toFixed(2)} MiB`,
        );
      expect(peak / MIB, "MiB that it cost").to.be.below(COST / MIB);
      expect(bad.destroyed || sent >= SENT, "all of it was taken, or it was closed").to.equal(true);

      const published = idsOf(await load.stop());
      await viewer.has(published);
      expect(viewer.raw.map(({ sequence_id }) => sequence_id)).to.deep.equal(published);
      expect(viewer.connects).to.deep.equal([false]);
      expect(viewer.disconnects).to.equal(0);
      expect(await node.readyz()).to.equal(200);
    });
  }
});
