import { once } from "node:events";
import type { AddressInfo } from "node:net";
import type { Duplex } from "node:stream";
import { AGENTS_NAMESPACE, type Envelope, stamp, terminalNamespace } from "@agentwire/shared";
import { expect } from "chai";
import fc from "fast-check";
import * as msgpack from "socket.io-msgpack-parser";
import { Decoder, type Packet, PacketType } from "socket.io-parser";
import { WebSocket, WebSocketServer } from "ws";
import type { Encoding } from "../../server/src/gate/encoding.js";
import { Frame } from "../../server/src/gate/frame.js";
import { COMPRESS_FROM_BYTES, webSocketFrame } from "../../server/src/gate/websocket-frame.js";
import { logFrame, stateFrame } from "../harness/gate.js";
import { onTeardown } from "../harness/teardown.js";
import { until } from "../harness/wait.js";

const MIB = 1_048_576;
const RSV1 = 0x40;
const encodings: Encoding[] = ["json", "messagepack"];
const both = [false, true];

/** A message as a client got it. */
interface Received {
  text: boolean;
  bytes: Buffer;
}

/** A standard client, and the raw socket on which it hears. */
async function connect({ compression = true } = {}) {
  const server = new WebSocketServer({
    host: "127.0.0.1",
    port: 0,
    // As a node offers it.
    perMessageDeflate: {
      serverNoContextTakeover: true,
      clientNoContextTakeover: true,
      threshold: Number.POSITIVE_INFINITY,
    },
  });
  onTeardown(() => new Promise<void>((resolve) => server.close(() => resolve())));
  await once(server, "listening");
  const { port } = server.address() as AddressInfo;
  const accepted = once(server, "connection");
  const client = new WebSocket(`ws://127.0.0.1:${port}`, { perMessageDeflate: compression });
  const received: Received[] = [];
  const failed: Error[] = [];
  client.on("message", (data: Buffer, binary) => received.push({ text: !binary, bytes: data }));
  client.on("error", (error) => failed.push(error));
  onTeardown(() => client.terminate());
  const [[peer]] = await Promise.all([accepted as Promise<[{ _socket: Duplex }]>, once(client, "open")]);
  expect(client.extensions).to.equal(compression ? "permessage-deflate" : "");

  /** Writes it as it is. @returns the messages that the client made of it */
  const hears = async (bytes: Buffer, count: number): Promise<Received[]> => {
    peer._socket.write(bytes);
    await until("the client heard it", () => received.length >= count || failed.length > 0);
    expect(failed).to.deep.equal([]);
    return received.splice(0);
  };
  return { hears };
}

/** Text that does not deflate to nothing, with characters of more than one byte. */
function textOf(length: number): Buffer {
  const bytes = Buffer.alloc(length, "x");
  for (let at = 0; at + 8 <= length; at += 8)
    bytes.write(((at * 2654435761) >>> 0).toString(36).slice(-4), at);
  if (length >= 3) bytes.write("€", length - 3);
  return bytes;
}

const bytesOf = (length: number): Buffer<ArrayBuffer> =>
  Buffer.from(Uint8Array.from({ length }, (_, at) => (at * 31 + (at >> 8)) & 0xff));

/** Reads a Socket.IO packet as a stock client does. */
function decode(encoding: Encoding, messages: (string | Buffer)[]): Packet {
  const decoder = encoding === "json" ? new Decoder() : new msgpack.Decoder();
  const packets: Packet[] = [];
  decoder.on("decoded", (packet: Packet) => packets.push(packet));
  for (const message of messages) decoder.add(message);
  expect(packets).to.have.length(1);
  return packets[0] as Packet;
}

/** The Socket.IO packet in Engine.IO's messages. */
function decodeReceived(encoding: Encoding, messages: Received[]): Packet {
  return decode(
    encoding,
    messages.map(({ text, bytes }) => {
      if (!text) return bytes;
      expect(bytes.toString()[0], "Engine.IO's type of a message").to.equal("4");
      return bytes.toString().slice(1);
    }),
  );
}

const big = (length: number): Frame => {
  const { envelope } = logFrame(7);
  const payload = { ...envelope.payload, message: textOf(length).toString() };
  return new Frame(AGENTS_NAMESPACE, { ...envelope, payload } as Envelope);
};

const output = (data: Uint8Array<ArrayBuffer>): Frame => {
  const payload = { task_id: "t1", stream: "stderr" as const, data, offset: 12 };
  return new Frame(terminalNamespace("t1"), stamp("TERMINAL_OUTPUT", "b-1", payload));
};

/** With bytes as plain lists: it is the same which class holds them. */
const plain = (value: unknown): unknown => {
  if (ArrayBuffer.isView(value)) return [...new Uint8Array(value.buffer, value.byteOffset, value.byteLength)];
  if (Array.isArray(value)) return value.map(plain);
  if (typeof value !== "object" || value === null) return value;
  return Object.fromEntries(Object.entries(value).map(([key, one]) => [key, plain(one)]));
};

describe("WebSocket frame", () => {
  const sizes = [0, 1, 125, 126, 1023, 1024, 65_535, 65_536, MIB];

  it("[D19][D22] a standard client reads messages of every size, text and bytes, compressed and not", async () => {
    const { hears } = await connect();
    for (const size of sizes)
      for (const text of both)
        for (const compress of both) {
          const bytes = text ? textOf(size) : bytesOf(size);
          const [heard] = await hears(webSocketFrame(bytes, text, compress), 1);
          expect(heard?.text).to.equal(text);
          expect(heard?.bytes.equals(bytes), `${size} bytes`).to.equal(true);
        }
  });

  it("[D19][D22] a client that negotiated no compression reads what is not compressed", async () => {
    const { hears } = await connect({ compression: false });
    for (const size of sizes) {
      const bytes = textOf(size);
      const [heard] = await hears(webSocketFrame(bytes, true, false), 1);
      expect(heard?.bytes.equals(bytes), `${size} bytes`).to.equal(true);
    }
  });

  it("[D22] messages of 1 KB and more are compressed, smaller ones are not, and none where it was not asked for", () => {
    const compressed = (size: number, compress: boolean) =>
      ((webSocketFrame(textOf(size), true, compress)[0] as number) & RSV1) !== 0;
    expect(COMPRESS_FROM_BYTES).to.equal(1024);
    expect([0, 1, 1023, 1024, 65_536, MIB].map((size) => compressed(size, true))).to.deep.equal([
      false,
      false,
      false,
      true,
      true,
      true,
    ]);
    expect([1024, MIB].some((size) => compressed(size, false))).to.equal(false);
    expect(webSocketFrame(Buffer.alloc(4096, "x"), true, true).length).to.be.below(100);
    for (const size of [1024, 70_000]) {
      const end = webSocketFrame(textOf(size), true, true).subarray(-4);
      expect(end.toString("hex"), "the empty block stays away (RFC 7692, 7.2.1)").not.to.equal("0000ffff");
    }
  });

  it("[D22] several messages in one write are several messages; each compressed by itself, in any order, again and again", async () => {
    const { hears } = await connect();
    const message = fc.record({
      size: fc.oneof(fc.integer({ min: 0, max: 2000 }), fc.integer({ min: 0, max: 70_000 })),
      text: fc.boolean(),
      compress: fc.boolean(),
    });
    await fc.assert(
      fc.asyncProperty(fc.array(message, { minLength: 1, maxLength: 8 }), async (messages) => {
        const sent = messages.map(({ size, text, compress }) => {
          const bytes = text ? textOf(size) : bytesOf(size);
          return { bytes, text, frame: webSocketFrame(bytes, text, compress) };
        });
        const all = [...sent, ...sent.toReversed()];
        const heard = await hears(Buffer.concat(all.map(({ frame }) => frame)), all.length);
        expect(heard).to.have.length(all.length);
        for (const [at, { bytes, text }] of all.entries()) {
          expect(heard[at]?.text).to.equal(text);
          expect(heard[at]?.bytes.equals(bytes)).to.equal(true);
        }
      }),
      { numRuns: 40 },
    );
  });
});

describe("frame", () => {
  const frames: [what: string, frame: () => Frame][] = [
    ["a small event", () => logFrame(7)],
    ["a large event", () => big(5000)],
    ["a very large event", () => big(100_000)],
    ["a state", () => stateFrame("t1", 3)],
    ["output in a Buffer", () => output(Buffer.from([0, 1, 255, 10, 13, 128]))],
    ["output in a Uint8Array", () => output(Uint8Array.of(0, 1, 255, 10, 13, 128))],
    ["output in a part of a larger one", () => output(bytesOf(9000).subarray(1234, 5330))],
    ["no output", () => output(Buffer.alloc(0))],
  ];

  for (const [what, make] of frames) {
    it(`[D19][D22] ${what} is the same in JSON and MessagePack, on WebSocket and polling, compressed and not`, async () => {
      const { hears } = await connect();
      for (const encoding of encodings) {
        for (const offset of make().delivery === "log" ? both : [false]) {
          const frame = make();
          const { namespace, envelope } = frame;
          const data = [envelope.event_type, envelope, ...(offset ? [envelope.sequence_id] : [])];
          const polled = decode(encoding, frame.messages(encoding, offset));
          expect(polled).to.deep.include({ nsp: namespace });
          expect([PacketType.EVENT, PacketType.BINARY_EVENT]).to.include(polled.type);
          expect(plain(polled.data), `${encoding}, polling`).to.deep.equal(plain(data));

          const { length } = frame.messages(encoding, offset);
          for (const compress of both) {
            const heard = await hears(frame.webSocketFrame(encoding, offset, compress), length);
            const packet = decodeReceived(encoding, heard);
            expect(packet.nsp).to.equal(namespace);
            expect(plain(packet.data), `${encoding}, WebSocket`).to.deep.equal(plain(data));
          }
        }
      }
    });
  }

  it("[D19] a status change carries its offset only where it is asked for, as a last text", () => {
    const { envelope } = logFrame(12);
    for (const encoding of encodings) {
      const frame = logFrame(12);
      expect(decode(encoding, frame.messages(encoding, true)).data)
        .to.have.length(3)
        .and.include("12-0");
      expect(decode(encoding, frame.messages(encoding, false)).data).to.have.length(2);
    }
    expect(envelope.sequence_id).to.equal("12-0");
  });

  it("[D19] it is encoded once for all that take it alike, and for no one else", () => {
    const frame = big(5000);
    const messages = new Set<unknown>();
    const wires = new Set<unknown>();
    for (let viewer = 0; viewer < 3; viewer++)
      for (const encoding of encodings)
        for (const offset of both) {
          messages.add(frame.messages(encoding, offset));
          for (const compress of both) wires.add(frame.webSocketFrame(encoding, offset, compress));
        }
    expect({ messages: messages.size, wires: wires.size }).to.deep.equal({ messages: 4, wires: 8 });
  });

  it("[D22] a small one is the same frame for who takes compression and who does not", () => {
    const frame = logFrame(7);
    for (const encoding of encodings)
      expect(frame.webSocketFrame(encoding, true, true)).to.equal(
        frame.webSocketFrame(encoding, true, false),
      );
    const large = big(5000);
    for (const encoding of encodings)
      expect(large.webSocketFrame(encoding, true, true).length).to.be.below(
        large.webSocketFrame(encoding, true, false).length / 1.2,
      );
  });

  it("[D19] encoding does not change the event, and what filters look at is its payload", () => {
    const frame = output(Buffer.from("hello"));
    const before = structuredClone(plain(frame.envelope));
    for (const encoding of encodings) frame.webSocketFrame(encoding, false, true);
    expect(plain(frame.envelope)).to.deep.equal(before);
    expect(logFrame(1, { urgent: true })).to.deep.include({ delivery: "log", urgent: true });
    expect(logFrame(1).about).to.deep.include({ agent_id: "a1", project_id: "p1", new_status: "working" });
  });
});
