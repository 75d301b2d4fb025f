import type { Envelope } from "@agentwire/shared";
import { io, type ManagerOptions, type Socket, type SocketOptions } from "socket.io-client";
import { microseconds } from "../clock.js";
import { EVENT, readMessage } from "./event.js";
import { Tally } from "./tally.js";

export interface Target {
  url: string;
  options: Partial<ManagerOptions & SocketOptions>;
  /** The event after which nothing published is missed. */
  joinedAt: string;
}

/** One connection that listens. */
export interface Listener {
  readonly joined: Promise<void>;
  readonly tally: Tally;
  readonly disconnects: number;
  /** Events whose text is not what was published. */
  readonly damaged: number;
  /** That came in on the line so far. */
  readonly bytes: number;
  /** Whether permessage-deflate was agreed on. */
  readonly deflates: boolean;
}

/** Where ws keeps its line; its types do not tell. */
export interface OnLine {
  readonly _socket?: { readonly bytesRead: number };
}

/** A browser: the stock client. */
export class Viewer implements Listener {
  readonly joined: Promise<void>;
  readonly tally: Tally;
  readonly damaged = 0;
  readonly deflates = false;
  readonly #socket: Socket;
  disconnects = 0;

  constructor({ url, options, joinedAt }: Target, expected: number) {
    this.tally = new Tally(expected);
    const socket = io(url, { transports: ["websocket"], forceNew: true, reconnection: false, ...options });
    this.#socket = socket;
    socket.on(EVENT, (envelope: Envelope<typeof EVENT>) => {
      const now = microseconds();
      const { n, published } = readMessage(envelope.payload.message ?? "");
      this.tally.hear(n, published, now);
    });
    socket.on("disconnect", () => this.disconnects++);
    this.joined = new Promise((resolve, reject) => {
      socket.once(joinedAt, () => resolve());
      socket.once("connect_error", reject);
    });
  }
  get bytes(): number {
    const { transport } = this.#socket.io.engine as unknown as { transport: { ws: OnLine } };
    return transport.ws._socket?.bytesRead ?? 0;
  }
}
