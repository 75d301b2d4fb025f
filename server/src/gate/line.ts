import type { Encoding } from "./encoding.js";
import type { Frame, Packet } from "./frame.js";

/** What is sent: a frame, and whether it carries its offset on this connection. */
export interface Sendable {
  readonly frame: Frame;
  readonly offset: boolean;
}

/** Engine.IO's transport, with what its types keep private. */
interface Transport {
  readonly name: string;
  readonly writable: boolean;
  send(packets: Packet[]): void;
  on(event: "ready", listener: () => void): unknown;
  off(event: "ready", listener: () => void): unknown;
  /** Of a WebSocket: the options of compression; while they are set, ready frames are not taken. */
  perMessageDeflate?: unknown;
  /** Of a WebSocket: the socket of `ws`, which knows what was negotiated. */
  socket?: { _extensions?: Record<string, { params?: { server_max_window_bits?: number } }> };
}

/** Engine.IO's connection, with what its types keep private. */
export interface EngineConnection {
  readonly readyState: string;
  readonly transport: unknown;
  readonly writeBuffer: readonly unknown[];
  on(event: "upgrade", listener: () => void): unknown;
  close(discard?: boolean): unknown;
}

const DEFLATE_WINDOW_BITS = 15;

/** Whether the client takes messages that were deflated with the usual window. */
function takesDeflated({ socket }: Transport): boolean {
  const deflate = socket?._extensions?.["permessage-deflate"];
  return deflate !== undefined && (deflate.params?.server_max_window_bits ?? 15) >= DEFLATE_WINDOW_BITS;
}

const readyFrame = ([packet]: Packet[]): Buffer | undefined => packet?.options.wsPreEncodedFrame?.[0];
const bytesOf = (packets: Packet[]): number => readyFrame(packets)?.length ?? 0;

const lengthOf = (messages: { length: number }[]): number =>
  messages.reduce((sum, { length }) => sum + length, 0);

/** One connection's way to the network, over whichever transport it has now. */
export class Line {
  readonly #connection: EngineConnection;
  readonly #onReady: () => void;
  #transport: Transport;
  #isWebSocket = false;
  #compress = false;

  /** @param onReady called when what was written has left for the network */
  constructor(
    connection: EngineConnection,
    readonly encoding: Encoding,
    onReady: () => void,
  ) {
    this.#connection = connection;
    this.#onReady = onReady;
    this.#transport = this.#take();
    connection.on("upgrade", () => {
      this.#transport.off("ready", onReady);
      this.#transport = this.#take();
      onReady();
    });
  }

  get open(): boolean {
    return this.#connection.readyState === "open";
  }

  /**
   * Engine.IO never refuses a message and keeps it without bound. It can really write when its transport is ready and
   * nothing waits before; its `drain` comes too early.
   */
  get writable(): boolean {
    return this.#transport.writable && this.#connection.writeBuffer.length === 0 && this.open;
  }

  /** Bytes that this takes on the line, about: on HTTP long polling they are compressed later. */
  size(frame: Frame, offset: boolean): number {
    return this.#ready(frame, offset)?.length ?? lengthOf(frame.messages(this.encoding, offset));
  }

  /** Writes one message. Only while it is writable. @returns its bytes */
  write(frame: Frame, offset: boolean): number {
    if (!this.#isWebSocket) return this.writeAll([{ frame, offset }]);
    const packets = frame.webSocketPackets(this.encoding, offset, this.#compress);
    this.#transport.send(packets);
    return bytesOf(packets);
  }

  /** Writes several at once: one write on WebSocket, one answer on polling. Only while it is writable. @returns bytes */
  writeAll(messages: readonly Sendable[]): number {
    const [first] = messages;
    if (!first) return 0;
    if (!this.#isWebSocket) {
      // On polling Engine.IO may add to the list that it is given.
      const options = { compress: true };
      const all = messages.flatMap(({ frame, offset }) => frame.messages(this.encoding, offset));
      this.#transport.send(all.map((data) => ({ type: "message", data, options })));
      return lengthOf(all);
    }
    if (messages.length === 1) return this.write(first.frame, first.offset);
    const frames = messages.map(({ frame, offset }) => this.#ready(frame, offset) as Buffer);
    const all = Buffer.concat(frames);
    const options = { compress: false, wsPreEncodedFrame: [all] };
    this.#transport.send([{ type: "message", data: "", options }]);
    return all.length;
  }

  /** Closes it as a transport close: the client comes back. */
  close(): void {
    this.#connection.close(true);
  }

  #ready(frame: Frame, offset: boolean): Buffer | undefined {
    return this.#isWebSocket
      ? readyFrame(frame.webSocketPackets(this.encoding, offset, this.#compress))
      : undefined;
  }

  #take(): Transport {
    const transport = this.#connection.transport as Transport;
    // Messages are compressed here, once for everybody; Engine.IO would do it again, and take no ready frame.
    this.#isWebSocket = transport.name === "websocket";
    if (this.#isWebSocket) transport.perMessageDeflate = null;
    this.#compress = takesDeflated(transport);
    transport.on("ready", this.#onReady);
    return transport;
  }
}
