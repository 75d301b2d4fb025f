import { randomBytes } from "node:crypto";
import { createServer, type Server as HttpServer } from "node:http";
import type { AddressInfo } from "node:net";
import { Server as Engine } from "engine.io";

/**
 * Messages are compressed by the gate, once for everybody, each by itself. So a client is promised no context from one to
 * the next, and is asked to keep none: it costs memory for each connection.
 */
const COMPRESSION = {
  serverNoContextTakeover: true,
  clientNoContextTakeover: true,
  threshold: Number.POSITIVE_INFINITY,
};

export interface EngineOptions {
  instanceId: string;
  /** Of one message or HTTP body of a client. */
  maxMessageBytes: number;
  /** Between pings, in ms: what a client is told. Each connection is pinged by its own heartbeat. */
  pingIntervalMs: number;
  /** How much later a ping may come before a client gives the node up: as long as the node waits for the client. */
  silenceMs: number;
}

/**
 * A session id ends with the name of its node: `<20 random characters>.<INSTANCE_ID>`. So a proxy finds the node of a
 * polling request (nginx.conf). It is a secret all the same, by its random part. A point, because no client encodes one in
 * a query.
 */
class NamedEngine extends Engine {
  constructor(
    private readonly instanceId: string,
    ...options: ConstructorParameters<typeof Engine>
  ) {
    super(...options);
  }

  override generateId(): string {
    return `${randomBytes(15).toString("base64url")}.${this.instanceId}`;
  }
}

/** The HTTP server and the Engine.IO of viewers, which the door joins. */
export function createEngine(options: EngineOptions): { http: HttpServer; engine: Engine } {
  return {
    // Room for a token that names hundreds of projects, and for one that is too long: the door answers that one, where
    // Node would say 431.
    http: createServer({ maxHeaderSize: 262_144 }),
    engine: new NamedEngine(options.instanceId, {
      maxHttpBufferSize: options.maxMessageBytes,
      perMessageDeflate: COMPRESSION,
      pingInterval: options.pingIntervalMs,
      pingTimeout: options.silenceMs,
    }),
  };
}

/**
 * @returns the port
 * @throws Error with one line when it cannot listen
 */
export async function listen(http: HttpServer, port: number, host: string): Promise<number> {
  await new Promise<void>((resolve, reject) => {
    const fail = ({ code }: NodeJS.ErrnoException) =>
      reject(new Error(`PORT: cannot listen on ${host}:${port}: ${code}`));
    http.once("error", fail).listen(port, host, resolve);
  });
  return (http.address() as AddressInfo).port;
}
