import { AGENTS_NAMESPACE, limits } from "@agentwire/shared";
import { expect } from "chai";
import msgpack from "socket.io-msgpack-parser";
import { WebSocket } from "ws";
import { sharedCluster } from "../harness/cluster.js";
import { onTeardown } from "../harness/teardown.js";
import { token } from "../harness/token.js";
import { until } from "../harness/wait.js";

const MOST = limits.messageBytes;
const TOO_LARGE = 1009;
const answer = `43${AGENTS_NAMESPACE},7`;

/** So many bytes of text that a client may send, and that are answered. */
const text = (bytes: number) => `42${AGENTS_NAMESPACE},7["SUBSCRIBE",{}]`.padEnd(bytes);
/** The same with characters of two bytes. */
function twoBytes(bytes: number): string {
  const [before, after] = [`42${AGENTS_NAMESPACE},7["SUBSCRIBE",{"agent_ids":["`, '"]}]'];
  const left = bytes - before.length - after.length;
  return `${before}${"é".repeat(Math.floor(left / 2))}${left % 2 === 1 ? "e" : ""}${after}`;
}
const encoded = (packet: object) =>
  (
    new msgpack.Encoder().encode({ nsp: AGENTS_NAMESPACE, ...packet } as never) as unknown as Buffer[]
  )[0] as Buffer;
function packed(bytes: number): Buffer {
  const encode = (id: string) => encoded({ type: 2, id: 7, data: ["SUBSCRIBE", { agent_ids: [id] }] });
  // A text over 64 KB has a head of five bytes.
  const around = encode("x".repeat(70_000)).length - 70_000;
  return encode("x".repeat(bytes - around));
}

/** Joined, in either encoding. */
async function open(url: string, isText: boolean, perMessageDeflate: boolean) {
  const query = new URLSearchParams({ EIO: "4", transport: "websocket", token: token("raw", ["p1"]) });
  if (!isText) query.set("encoding", "messagepack");
  const ws = new WebSocket(`${url.replace("http", "ws")}/socket.io/?${query}`, { perMessageDeflate });
  onTeardown(() => ws.terminate());
  const heard: Buffer[] = [];
  const closed: number[] = [];
  ws.on("error", () => {});
  ws.on("close", (code) => closed.push(code));
  ws.on("message", (data: Buffer) => {
    heard.push(data);
    if (data[0] === "0".charCodeAt(0)) ws.send(isText ? `40${AGENTS_NAMESPACE},` : encoded({ type: 0 }));
  });
  const hears = (part: string | Buffer) => heard.some((data) => data.includes(part));
  await until("it has joined", () => hears("SNAPSHOT"));
  return { ws, closed, answered: () => hears(isText ? answer : "INVALID_FILTER") };
}

describe("the size of a message", () => {
  const cluster = sharedCluster({ nodes: 1 });

  const ways: [string, (bytes: number) => string | Buffer, { compress: boolean; pieces: number }][] = [
    ["text", text, { compress: false, pieces: 1 }],
    ["text of two bytes a character", twoBytes, { compress: false, pieces: 1 }],
    ["bytes", packed, { compress: false, pieces: 1 }],
    ["fragments", text, { compress: false, pieces: 5 }],
    ["fragments of bytes", packed, { compress: false, pieces: 5 }],
    ["compressed text", text, { compress: true, pieces: 1 }],
    ["compressed fragments", text, { compress: true, pieces: 5 }],
    ["compressed bytes", packed, { compress: true, pieces: 1 }],
  ];
  for (const [what, message, { compress, pieces }] of ways) {
    it(`[D13] over WebSocket, ${what}: 1 MiB is taken, one byte more closes the connection with 1009`, async () => {
      const isText = typeof message(1000) === "string";
      for (const bytes of [MOST, MOST + 1]) {
        const one = await open(cluster().node(1).url, isText, compress);
        const all = Buffer.from(message(bytes) as string);
        expect(all.length).to.equal(bytes);
        for (let n = 0; n < pieces; n++) {
          const piece = all.subarray((n * bytes) / pieces, ((n + 1) * bytes) / pieces);
          one.ws.send(piece, { binary: !isText, compress, fin: n === pieces - 1 });
        }
        if (bytes > MOST) await until("it is closed", () => one.closed.length > 0);
        else await until("its answer", one.answered);
        expect(one.closed).to.deep.equal(bytes > MOST ? [TOO_LARGE] : []);
        expect(one.answered()).to.equal(bytes === MOST);
      }
      expect(await cluster().node(1).readyz()).to.equal(200);
    });
  }

  for (const [what, message] of [
    ["text", text],
    ["text of two bytes a character", twoBytes],
  ] as const) {
    for (const chunked of [false, true]) {
      it(`[D13] over polling, ${what}${chunked ? ", its length not told before" : ""}: 1 MiB is taken, one byte more is answered with 413`, async () => {
        const query = new URLSearchParams({ EIO: "4", transport: "polling", token: token("poll", ["p1"]) });
        const address = () => `${cluster().node(1).url}/socket.io/?${query}`;
        const opened = await (await fetch(address())).text();
        query.set("sid", JSON.parse(opened.slice(1)).sid);
        const post = (body: string) =>
          fetch(address(), {
            method: "POST",
            body: chunked ? new Blob([body]).stream() : body,
            ...(chunked && { duplex: "half" }),
          } as RequestInit);
        const heard: string[] = [];
        const hears = (part: string) =>
          until(part, async () => {
            heard.push(await (await fetch(address())).text());
            return heard.at(-1)?.includes(part);
          });

        expect((await post(`40${AGENTS_NAMESPACE},`)).status).to.equal(200);
        await hears('"SNAPSHOT"');
        expect((await post(message(MOST + 1))).status).to.equal(413);
        expect((await post(message(MOST))).status).to.equal(200);
        await hears(answer);
      });
    }
  }
});
