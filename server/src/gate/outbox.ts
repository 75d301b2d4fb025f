import { randomUUID } from "node:crypto";
import { once } from "node:events";
import { type EventType, type PayloadOf, stamp } from "@agentwire/shared";
import type { Namespace, Socket } from "socket.io";
import { Frame, type Packets, type Variant } from "./frame.js";

/** Parts of Socket.IO's client and Engine.IO's socket that their types keep private. */
interface EngineWriter {
  writeToEngine(packets: unknown[], options: Packets["options"]): void;
}
interface EngineQueue {
  readonly writeBuffer: unknown[];
}

/** The way out to one connection. */
export class Outbox {
  readonly #socket: Socket;
  readonly #namespace: Namespace;
  readonly #variant: Variant;

  constructor(socket: Socket, variant: Variant) {
    this.#socket = socket;
    this.#namespace = socket.nsp as unknown as Namespace;
    this.#variant = variant;
  }

  get open(): boolean {
    return this.#socket.connected;
  }

  send(frame: Frame): void {
    const { packets, options } = frame.packets(this.#variant);
    (this.#socket.client as unknown as EngineWriter).writeToEngine(packets, options);
  }

  /** What the server itself says to this connection. */
  say<E extends EventType>(event_type: E, payload: PayloadOf<E>): void {
    if (this.open) this.send(new Frame(this.#namespace, stamp(event_type, randomUUID(), payload)));
  }

  /**
   * Resolves when everything written so far has left for the network, or the connection is gone. Engine.IO's own
   * `drain` comes too early: writable means that the transport is ready and nothing waits before it.
   */
  async writable(): Promise<void> {
    const { conn } = this.#socket;
    const queue = conn as unknown as EngineQueue;
    while (this.open && !(conn.transport.writable && queue.writeBuffer.length === 0)) {
      const waiting = new AbortController();
      const { signal } = waiting;
      await Promise.race([
        once(conn.transport, "ready", { signal }),
        once(conn, "upgrade", { signal }),
        once(conn, "close", { signal }),
      ]).finally(() => waiting.abort());
    }
  }
}
