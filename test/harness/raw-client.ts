import { Agent, request } from "node:http";
import { connect } from "node:net";
import { AGENTS_NAMESPACE } from "@agentwire/shared";
import msgpack from "socket.io-msgpack-parser";
import { BINARY, CLOSE, maskedFrame, PING, PONG, readFrame, TEXT } from "./raw-frame.js";
import { onTeardown } from "./teardown.js";

export type Encoding = "json" | "messagepack";

/** What became of a connection after something was written on it. */
export interface Outcome {
  closed: boolean;
  /** An ERROR came before. */
  told: boolean;
}

/** How long something may take that must happen. */
const DEADLINE_MS = 15_000;
const PROBE = Buffer.from("probe");

const connectPacket = (encoding: Encoding, nsp: string = AGENTS_NAMESPACE): Buffer =>
  encoding === "json"
    ? Buffer.from(`40${nsp},`)
    : ((new msgpack.Encoder().encode({ type: 0, nsp }) as unknown as Buffer[])[0] as Buffer);

const address = (transport: string, token: string, encoding: Encoding) =>
  `/socket.io/?EIO=4&transport=${transport}&encoding=${encoding}&token=${token}`;

/**
 * Opens a WebSocket with as little as possible, writes `bytes`, and says what became of it: closed, or alive enough to
 * answer a ping that follows when it `expects` that.
 */
export function tryWebSocket(
  port: number,
  token: string,
  { bytes, joined, encoding, alive }: { bytes: Buffer; joined: boolean; encoding: Encoding; alive: boolean },
): Promise<Outcome> {
  const socket = connect(port, "127.0.0.1");
  const last = alive ? Buffer.concat([bytes, maskedFrame(PING, PROBE)]) : bytes;
  const upgrade = Buffer.from(
    `GET ${address("websocket", token, encoding)} HTTP/1.1\r\nHost: node\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n` +
      "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: MDEyMzQ1Njc4OWFiY2RlZg==\r\n\r\n",
  );
  socket.write(joined ? upgrade : Buffer.concat([upgrade, last]));

  return new Promise((resolve, reject) => {
    let rest = Buffer.alloc(0);
    let isOpen = false;
    let told = false;
    let step: "open" | "joining" | "written" = joined ? "open" : "written";
    const end = (outcome: Outcome | Error) => {
      clearTimeout(timer);
      // No last words: the system would keep the address for a minute.
      socket.resetAndDestroy();
      if (outcome instanceof Error) reject(outcome);
      else resolve(outcome);
    };
    const timer = setTimeout(() => end({ closed: false, told }), DEADLINE_MS);
    socket.on("error", () => end({ closed: true, told }));
    socket.on("end", () => end({ closed: true, told }));
    socket.on("data", (data) => {
      rest = rest.length === 0 ? data : Buffer.concat([rest, data]);
      if (!isOpen) {
        const head = rest.indexOf("\r\n\r\n");
        if (head < 0) return;
        if (!rest.subarray(0, head).includes("101")) return end(new Error(rest.toString()));
        isOpen = true;
        rest = rest.subarray(head + 4);
      }
      for (let frame = readFrame(rest); frame?.payload; frame = readFrame(rest)) {
        const { opcode, payload } = frame;
        rest = rest.subarray(frame.end);
        if (opcode === CLOSE) return end({ closed: true, told });
        if (opcode === PONG && payload.equals(PROBE)) return end({ closed: false, told });
        if (step === "open") {
          step = "joining";
          socket.write(maskedFrame(encoding === "json" ? TEXT : BINARY, connectPacket(encoding)));
        } else if (step === "joining" && payload.includes("SNAPSHOT")) {
          step = "written";
          socket.write(last);
        } else if (step === "written" && payload.includes("ERROR")) told = true;
      }
    });
  });
}

/** The same over polling; each `try` is a connection of its own. */
export function openPolling(port: number, sockets: number) {
  const agent = new Agent({ keepAlive: true, maxSockets: sockets });
  onTeardown(() => agent.destroy());
  /** Status 0: the line was cut. */
  const ask = (path: string, body?: Buffer) =>
    new Promise<{ status: number; text: string }>((resolve) => {
      const asked = request(
        { port, host: "127.0.0.1", path, agent, method: body ? "POST" : "GET" },
        (answer) => {
          let text = "";
          answer.setEncoding("utf8").on("data", (part) => {
            text += part;
          });
          answer.on("end", () => resolve({ status: answer.statusCode ?? 0, text }));
          answer.on("error", () => resolve({ status: 0, text }));
        },
      );
      asked.setTimeout(DEADLINE_MS, () => asked.destroy());
      asked.on("error", () => resolve({ status: 0, text: "" }));
      asked.end(body);
    });

  return async (
    token: string,
    {
      bytes,
      joined,
      encoding,
      alive,
    }: { bytes: Buffer; joined: boolean; encoding: Encoding; alive: boolean },
  ): Promise<Outcome> => {
    const path = address("polling", token, encoding);
    const opened = await ask(path);
    if (opened.status !== 200) throw new Error(`${opened.status} ${opened.text}`);
    const mine = `${path}&sid=${JSON.parse(opened.text.slice(1)).sid}`;
    const post = (packet: Buffer) => ask(mine, packet);
    const postEncoded = (packet: Buffer) =>
      post(encoding === "json" ? packet : Buffer.from(`b${packet.toString("base64")}`));
    if (joined) {
      await postEncoded(connectPacket(encoding));
      for (let text = ""; !text.includes("SNAPSHOT"); ) {
        const answer = await ask(mine);
        if (answer.status !== 200) throw new Error(`${answer.status} ${answer.text}`);
        text = encoding === "json" ? answer.text : unpacked(answer.text);
      }
    }
    await post(bytes);
    if (alive) {
      const isAlive = (await postEncoded(connectPacket(encoding, "/nope"))).status === 200;
      // So that it ends now.
      await post(Buffer.from("x"));
      return { closed: !isAlive, told: false };
    }
    const ends = performance.now() + DEADLINE_MS;
    for (let told = false; ; ) {
      const { status, text } = await ask(mine);
      if (performance.now() > ends) return { closed: false, told };
      told ||= (encoding === "json" ? text : unpacked(text)).includes("ERROR");
      // An unknown `sid`, or Engine.IO's close.
      if (status !== 200 || text.split("\x1e").includes("1")) return { closed: true, told };
    }
  };
}

const unpacked = (text: string): string =>
  text
    .split("\x1e")
    .map((packet) =>
      packet.startsWith("b") ? Buffer.from(packet.slice(1), "base64").toString("latin1") : packet,
    )
    .join(" ");
