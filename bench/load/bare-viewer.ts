import { WebSocket } from "ws";
import { microseconds } from "../clock.js";
import { countInProject, EVENT, longText, readMessage } from "./event.js";
import { Tally } from "./tally.js";
import type { Listener, OnLine, Target } from "./viewer.js";

const NAMESPACE = "/ws/agents,";
const BEGINNING = `42${NAMESPACE}["${EVENT}"`;
const MESSAGE = Buffer.from('"message":"');
/** More than the two numbers at the beginning of a message take. */
const NUMBERS = 40;

export interface Hearing {
  expected: number;
  projects: number;
  /** Offers permessage-deflate, and compares the text of each event with what was published. */
  deflate: boolean;
}

/**
 * A connection with as little work in it as will do, so that thousands of them leave the processor to the node: a WebSocket, and
 * the few packets of Engine.IO and Socket.IO that a listener needs, written by hand.
 */
export class BareViewer implements Listener {
  readonly joined: Promise<void>;
  readonly tally: Tally;
  readonly #ws: WebSocket;
  disconnects = 0;
  damaged = 0;

  constructor(
    { url, options, joinedAt }: Target,
    private readonly hearing: Hearing,
  ) {
    this.tally = new Tally(hearing.expected);
    const address = new URL("/socket.io/?EIO=4&transport=websocket", url.replace("http", "ws"));
    for (const [name, value] of Object.entries(options.query ?? {})) address.searchParams.set(name, value);
    const connect = `40${NAMESPACE}${JSON.stringify(options.auth ?? {})}`;

    const ws = new WebSocket(address, { perMessageDeflate: hearing.deflate, skipUTF8Validation: true });
    this.#ws = ws;
    ws.on("close", () => this.disconnects++);
    this.joined = new Promise((resolve, reject) => {
      ws.once("error", reject);
      if (joinedAt === "open") ws.once("open", () => resolve());
      const joined = joinedAt === "connect" ? `40${NAMESPACE}` : `42${NAMESPACE}["${joinedAt}"`;
      ws.on("message", (data: Buffer) => {
        const packet = data.toString("latin1", 0, BEGINNING.length);
        if (packet === BEGINNING) return this.#hear(data);
        if (packet.startsWith("0")) ws.send(connect);
        else if (packet === "2") ws.send("3");
        else if (packet.startsWith(joined)) resolve();
        else if (packet.startsWith("44")) reject(new Error(`not let in: ${data}`));
      });
    });
  }

  get bytes(): number {
    return (this.#ws as unknown as OnLine)._socket?.bytesRead ?? 0;
  }

  get deflates(): boolean {
    return this.#ws.extensions.includes("permessage-deflate");
  }

  #hear(data: Buffer): void {
    const now = microseconds();
    const start = data.indexOf(MESSAGE) + MESSAGE.length;
    const { n, published, length } = readMessage(data.toString("latin1", start, start + NUMBERS));
    this.tally.hear(countInProject(n, this.hearing.projects), published, now);
    if (!this.hearing.deflate) return;
    const expected = longTextInJson(n, length);
    if (data.compare(expected, 0, expected.length, start + length, start + length + expected.length) !== 0)
      this.damaged++;
  }
}

const texts = new Map<number, Buffer>();

/** With the quote that ends it. Made once for all viewers, who hear the same few events at a time. */
function longTextInJson(n: number, length: number): Buffer {
  const known = texts.get(n);
  if (known) return known;
  const made = Buffer.from(JSON.stringify(longText(n, length)).slice(1));
  texts.set(n, made);
  return made;
}
