import { once } from "node:events";
import { createServer, type RequestListener, type Server, type ServerResponse } from "node:http";
import { freePort } from "./ports.js";
import { onTeardown } from "./teardown.js";

/** A login's key server: real HTTP, on an address that stays the same while it is stopped. */
export class JwksServer {
  /** Requests that came, of any path. */
  requests: string[] = [];
  /** What it answers with, instead of the keys. */
  answer: ((res: ServerResponse) => void) | undefined;
  #server: Server | undefined;

  constructor(
    private readonly port: number,
    public keys: object[],
  ) {}

  get url(): string {
    return `http://127.0.0.1:${this.port}/auth/v1/.well-known/jwks.json`;
  }

  async start(): Promise<void> {
    const listener: RequestListener = (req, res) => {
      this.requests.push(req.url ?? "");
      if (this.answer) return this.answer(res);
      res.setHeader("Content-Type", "application/json").end(JSON.stringify({ keys: this.keys }));
    };
    this.#server = createServer(listener).listen(this.port, "127.0.0.1");
    await once(this.#server, "listening");
  }

  async stop(): Promise<void> {
    const server = this.#server;
    if (!server) return;
    this.#server = undefined;
    const closed = once(server.close(), "close");
    server.closeAllConnections();
    await closed;
  }
}

/** One that runs, until the test is over. */
export async function startJwksServer(keys: object[] = []): Promise<JwksServer> {
  const server = new JwksServer(await freePort(), keys);
  await server.start();
  onTeardown(() => server.stop());
  return server;
}
