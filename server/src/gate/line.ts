import type { Encoding } from "./encoding.js";
import type { Frame } from "./frame.js";
import type { Ticks } from "./ticks.js";

/** What is sent: a frame, and whether it carries its offset on this connection. */
export interface Sendable {
  readonly frame: Frame;
  readonly offset: boolean;
}

/** The network's socket. */
interface RawSocket {
  write(bytes: Buffer, written?: () => void): unknown;
  /** Bytes that the network has not taken. */
  readonly writableLength: number;
}

/** What `ws` and Node keep of a WebSocket, as far as frames are written past them. */
interface RawWebSocket {
  readonly _socket: RawSocket;
  readonly _extensions?: Record<string, { params?: { server_max_window_bits?: number } }>;
}

/** Engine.IO's transport, with what its types keep private. */
interface Transport {
  readonly name: string;
  readonly writable: boolean;
  send(packets: { type: "message"; data: string | Buffer; options: { compress: boolean } }[]): void;
  on(event: "ready", listener: () => void): unknown;
  off(event: "ready", listener: () => void): unknown;
  /** Of a WebSocket only. */
  readonly socket?: RawWebSocket;
}

/** Engine.IO's connection, with what its types keep private. */
export interface EngineConnection {
  readonly readyState: string;
  readonly transport: unknown;
  readonly writeBuffer: readonly unknown[];
  on(event: "upgrade" | "packetCreate", listener: () => void): unknown;
  once(event: "close", listener: () => void): unknown;
  close(discard?: boolean): unknown;
}

const NOTHING = Buffer.alloc(0);

/** A client that asked for a smaller window cannot read what was deflated for all. */
const WINDOW_BITS = 15;

function takesDeflated(socket: RawWebSocket): boolean {
  const deflate = socket._extensions?.["permessage-deflate"];
  return deflate !== undefined && (deflate.params?.server_max_window_bits ?? WINDOW_BITS) >= WINDOW_BITS;
}

const lengthOf = (messages: readonly { length: number }[]): number =>
  messages.reduce((sum, { length }) => sum + length, 0);

/**
 * One connection's way to the network, over whichever transport it has now. On WebSocket the ready frame goes straight to
 * the network's socket: it is the same for all, and what Engine.IO would do for each of them costs more than the rest.
 * Polling answers are Engine.IO's.
 */
export class Line {
  readonly #connection: EngineConnection;
  readonly #onReady: () => void;
  #transport: Transport;
  /** Of a WebSocket. */
  #socket: RawSocket | undefined;
  #compress = false;
  /** The network has not taken what was written last. */
  #blocked = false;
  /** The end of this turn is waited for. */
  #expected = false;
  /** The turn in which something was written last. */
  #wroteIn = -1;
  /** Engine.IO has, or had a moment ago, something of its own to write. */
  #shared = true;
  #closed = false;

  /** @param onReady called when it may be writable again; after {@link expect}, it is */
  constructor(
    connection: EngineConnection,
    readonly encoding: Encoding,
    private readonly ticks: Ticks,
    onReady: () => void,
  ) {
    this.#connection = connection;
    this.#onReady = onReady;
    this.#transport = this.#take();
    connection.once("close", () => {
      this.#closed = true;
    });
    connection.on("packetCreate", () => {
      this.#shared = true;
    });
    connection.on("upgrade", () => {
      this.#transport.off("ready", onReady);
      this.#transport = this.#take();
      onReady();
    });
  }

  get open(): boolean {
    return this.#connection.readyState === "open";
  }

  get writable(): boolean {
    return (
      !this.#blocked &&
      !this.#closed &&
      this.#wroteIn !== this.ticks.current &&
      (!this.#shared || this.#engineIsDone())
    );
  }

  /** Something waits for it to be writable. */
  expect(): void {
    if (this.#blocked || this.#expected || this.#wroteIn !== this.ticks.current) return;
    this.#expected = true;
    this.ticks.atEnd(this.#turnIsOver);
  }

  #turnIsOver = (): void => {
    this.#expected = false;
    this.#onReady();
  };

  /** The client does not take what was written. That it takes one write at a time is no sign of that. */
  get slow(): boolean {
    return this.#blocked || (this.#shared && !this.#engineIsDone());
  }

  /**
   * Engine.IO never refuses a message and keeps it without bound. Its transport is ready when nothing waits before; its
   * `drain` comes too early.
   */
  #engineIsDone(): boolean {
    const done = this.#transport.writable && this.#connection.writeBuffer.length === 0 && this.open;
    // On polling it is asked each time: each answer is Engine.IO's.
    this.#shared = !done || !this.#socket;
    return done;
  }

  /** Bytes of memory that it holds while it waits, about: as an envelope, and encoded; compressed it would be less. */
  size(frame: Frame, offset: boolean): number {
    return 2 * lengthOf(frame.messages(this.encoding, offset));
  }

  /** Writes one message. Only while it is writable. @returns its bytes */
  write(frame: Frame, offset: boolean): number {
    if (!this.#socket) return this.#answer(frame.messages(this.encoding, offset));
    return this.#writeFrames(frame.webSocketFrame(this.encoding, offset, this.#compress));
  }

  /** Writes several at once: one write on WebSocket, one answer on polling. Only while it is writable. @returns bytes */
  writeAll(messages: readonly Sendable[]): number {
    if (!this.#socket)
      return this.#answer(messages.flatMap(({ frame, offset }) => frame.messages(this.encoding, offset)));
    const frames = messages.map(({ frame, offset }) =>
      frame.webSocketFrame(this.encoding, offset, this.#compress),
    );
    return this.#writeFrames(frames.length === 1 ? (frames[0] as Buffer) : Buffer.concat(frames));
  }

  /** Closes it as a transport close: the client comes back. */
  close(): void {
    this.#connection.close(true);
  }

  #writeFrames(bytes: Buffer): number {
    this.ticks.touch();
    this.#wroteIn = this.ticks.current;
    const socket = this.#socket as RawSocket;
    socket.write(bytes);
    // Mostly the network took it already; otherwise an empty write, in line behind it, tells when it has.
    if (socket.writableLength > 0) {
      this.#blocked = true;
      socket.write(NOTHING, this.#unblock);
    }
    return bytes.length;
  }

  /** Called for a failed write, too: then the connection closes. */
  #unblock = (): void => {
    this.#blocked = false;
    this.#onReady();
  };

  #answer(messages: readonly (string | Buffer)[]): number {
    const options = { compress: true };
    this.#transport.send(messages.map((data) => ({ type: "message", data, options })));
    return lengthOf(messages);
  }

  #take(): Transport {
    const transport = this.#connection.transport as Transport;
    const webSocket = transport.name === "websocket" ? transport.socket : undefined;
    this.#socket = webSocket?._socket;
    this.#compress = webSocket !== undefined && takesDeflated(webSocket);
    this.#shared = true;
    transport.on("ready", this.#onReady);
    return transport;
  }
}
