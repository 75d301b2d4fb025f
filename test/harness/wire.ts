import { once } from "node:events";
import { type AddressInfo, connect, createServer, type Socket } from "node:net";
import { onTeardown } from "./teardown.js";

/** One WebSocket frame as a node wrote it (RFC 6455, 5.2). */
export interface WireFrame {
  opcode: number;
  /** RSV1: the message is compressed. */
  compressed: boolean;
  length: number;
}

/** Called for each piece of data on a line, either way, counted from 1: it goes on when this resolves. */
export type Before = (line: WireLine, piece: number) => Promise<void> | undefined;

function pass(wait: Promise<void> | undefined, go: () => void): void {
  if (wait) wait.then(go, () => {});
  else go();
}

/** One TCP connection on its way: what the node said on it, and whether it is taken. */
export class WireLine {
  readonly frames: WireFrame[] = [];
  /** Bytes from the node. */
  bytes = 0;
  /** What both sides said first, as text. */
  request = "";
  answer = "";
  #isWebSocket = false;
  #rest = Buffer.alloc(0);
  #held = false;

  constructor(
    private readonly client: Socket,
    private readonly upstream: Socket,
    before: Before,
  ) {
    let chunks = 0;
    for (const socket of [client, upstream]) socket.setNoDelay();
    client.on("data", (chunk: Buffer) => {
      if (!this.request.includes("\r\n\r\n")) this.request += chunk.toString("latin1");
      const wait = before(this, ++chunks);
      if (wait) client.pause();
      pass(wait, () => {
        if (upstream.write(chunk)) client.resume();
        else client.pause();
      });
    });
    upstream.on("drain", () => client.resume());
    upstream.on("data", (chunk: Buffer) => {
      this.#take(chunk);
      const wait = before(this, ++chunks);
      if (wait) upstream.pause();
      pass(wait, () => {
        if (!client.write(chunk)) upstream.pause();
        else if (!this.#held) upstream.resume();
      });
    });
    client.on("drain", () => {
      if (!this.#held) upstream.resume();
    });
    for (const [from, to] of [
      [client, upstream],
      [upstream, client],
    ] as const) {
      from.on("error", () => to.destroy());
      from.on("close", () => to.destroy());
    }
  }

  get open(): boolean {
    return !this.client.destroyed;
  }

  /** Reads nothing more from the node. */
  hold(): void {
    this.#held = true;
    this.upstream.pause();
  }

  release(): void {
    this.#held = false;
    this.upstream.resume();
  }

  cut(): void {
    this.client.destroy();
    this.upstream.destroy();
  }

  #take(chunk: Buffer): void {
    this.bytes += chunk.length;
    if (!this.#isWebSocket) {
      // Of polling: the beginning of each answer.
      if (this.answer.length < 65_536) this.answer += chunk.toString("latin1");
      const end = this.answer.indexOf("\r\n\r\n");
      if (!this.answer.startsWith("HTTP/1.1 101") || end < 0) return;
      this.#isWebSocket = true;
      this.#rest = Buffer.from(this.answer.slice(end + 4), "latin1");
      this.answer = this.answer.slice(0, end + 4);
    } else this.#rest = Buffer.concat([this.#rest, chunk]);
    for (let frame = frameIn(this.#rest); frame; frame = frameIn(this.#rest)) {
      this.frames.push(frame.frame);
      this.#rest = this.#rest.subarray(frame.end);
    }
  }
}

/** The first whole frame in these bytes, and where it ends. */
function frameIn(bytes: Buffer): { frame: WireFrame; end: number } | undefined {
  if (bytes.length < 2) return undefined;
  const [first = 0, second = 0] = bytes;
  if (second & 0x80) throw new Error("a node must not mask");
  let length = second & 0x7f;
  let head = 2;
  if (length >= 126) {
    head = length === 126 ? 4 : 10;
    if (bytes.length < head) return undefined;
    length = head === 4 ? bytes.readUInt16BE(2) : Number(bytes.readBigUInt64BE(2));
  }
  const end = head + length;
  if (bytes.length < end) return undefined;
  return { frame: { opcode: first & 0x0f, compressed: (first & 0x40) !== 0, length }, end };
}

/** An address in front of one node that shows each connection as it is on the line, and can hold it up. */
export async function openWire(node: { port: number }, before: Before = () => undefined) {
  const lines: WireLine[] = [];
  let held = false;
  const server = createServer((client) => {
    const line = new WireLine(client, connect(node.port, "127.0.0.1"), before);
    if (held) line.hold();
    lines.push(line);
  });
  server.listen(0, "127.0.0.1");
  await once(server, "listening");
  onTeardown(async () => {
    for (const line of lines) line.cut();
    server.close();
    await once(server, "close");
  });
  return {
    url: `http://127.0.0.1:${(server.address() as AddressInfo).port}`,
    lines,
    /** From now on nobody here reads what the node writes. */
    hold(): void {
      held = true;
      for (const line of lines) line.hold();
    },
    release(): void {
      held = false;
      for (const line of lines) line.release();
    },
  };
}

export type Wire = Awaited<ReturnType<typeof openWire>>;
