/** Engine.IO's connection, with what its types keep private. */
export interface Pinged {
  readonly transport: { socket?: { terminate(): void } };
  pingIntervalTimer: NodeJS.Timeout | null;
  sendPacket(type: "ping"): unknown;
  on(event: "heartbeat" | "close", listener: () => void): unknown;
  once(event: "packet" | "close", listener: () => void): unknown;
  off(event: "packet" | "close", listener: () => void): unknown;
  onClose(reason: "ping timeout"): void;
}

/** In ms but `maxMissed`. */
export interface HeartbeatTimes {
  /** Between two pings. */
  interval: number;
  /** A ping that is not answered within this is missed. */
  timeout: number;
  /** So many in a row end the connection. */
  maxMissed: number;
}

/**
 * Pings a client as long as it is connected. Engine.IO sends one ping and gives up when it is not answered; here each of
 * `maxMissed` is sent for real, so that who was in a tunnel for one of them stays. Any pong that comes in time answers.
 */
export class Heartbeat {
  readonly #connection: Pinged;
  /** When the client last answered, or came. */
  answeredAt = new Date();
  #answers = 0;
  #missed = 0;
  readonly #waiting = new Set<NodeJS.Timeout>();

  constructor(connection: object, times: HeartbeatTimes) {
    const pinged = connection as Pinged;
    this.#connection = pinged;
    clearTimeout(pinged.pingIntervalTimer ?? undefined);
    pinged.pingIntervalTimer = null;
    const timer = setInterval(() => this.#ping(times), times.interval);
    pinged.on("heartbeat", () => {
      this.#answers++;
      this.answeredAt = new Date();
    });
    pinged.on("close", () => {
      clearInterval(timer);
      for (const one of this.#waiting) clearTimeout(one);
    });
  }

  /** Pings now, and resolves to whether anything comes within so many ms. */
  answers(withinMs: number): Promise<boolean> {
    const pinged = this.#connection;
    return new Promise((resolve) => {
      const end = (came: boolean) => {
        clearTimeout(timer);
        pinged.off("packet", heard);
        pinged.off("close", gone);
        resolve(came);
      };
      const heard = () => end(true);
      const gone = () => end(false);
      const timer = setTimeout(gone, withinMs);
      pinged.once("packet", heard);
      pinged.once("close", gone);
      pinged.sendPacket("ping");
    });
  }

  #ping({ timeout, maxMissed }: HeartbeatTimes): void {
    const before = this.#answers;
    const judge = () => {
      this.#missed = this.#answers > before ? 0 : this.#missed + 1;
      if (this.#missed >= maxMissed) this.#end();
    };
    const timer = setTimeout(() => {
      this.#waiting.delete(timer);
      // A node that was paused first reads what came meanwhile.
      setImmediate(judge);
    }, timeout);
    this.#waiting.add(timer);
    this.#connection.sendPacket("ping");
  }

  #end(): void {
    const { socket } = this.#connection.transport;
    this.#connection.onClose("ping timeout");
    // Nobody is there to agree to the end: a WebSocket would wait for that for half a minute.
    socket?.terminate();
  }
}
