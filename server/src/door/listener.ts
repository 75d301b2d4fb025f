import type { Server as HttpServer, IncomingMessage, ServerResponse } from "node:http";
import type { Duplex } from "node:stream";
import { refusal } from "@agentwire/shared";
import type { Server as Engine } from "engine.io";
import type { Logger } from "pino";
import { answerRequest, answerUpgrade } from "./answer.js";
import { type Admission, type HandshakeRules, judgeHandshake, type Verdict } from "./handshake.js";

export const ENGINE_PATH = "/socket.io/";

const PREFLIGHT = {
  "Access-Control-Allow-Methods": "GET, POST",
  "Access-Control-Allow-Headers": "Authorization, Content-Type",
  "Access-Control-Max-Age": "600",
};

/**
 * Stands before Engine.IO on both of its ways in, because Engine.IO can answer a refusal only with 400 or 403.
 * Requests of a connection that exists (`sid`) go through. `elsewhere` gets every other path.
 *
 * @returns what was admitted with a request; Socket.IO hands that same request to its middlewares
 */
export function openDoor(
  http: HttpServer,
  engine: Engine,
  rules: HandshakeRules,
  elsewhere: (req: IncomingMessage, res: ServerResponse) => void,
  logger: Logger,
): (request: IncomingMessage) => Admission | undefined {
  const admissions = new WeakMap<IncomingMessage, Admission>();

  const judge = async (req: IncomingMessage): Promise<Verdict> => {
    try {
      return await judgeHandshake(req, rules);
    } catch (error) {
      logger.error({ err: error }, "handshake could not be judged");
      return { refused: refusal("UNAVAILABLE") };
    }
  };

  const onRequest = async (req: IncomingMessage, res: ServerResponse): Promise<void> => {
    const url = urlOf(req);
    if (!url) return answerRequest(res, refusal("BAD_REQUEST"));
    if (url.pathname !== ENGINE_PATH) return elsewhere(req, res);
    const allowed = rules.origin.allows(req.headers);
    const headers = allowed ? rules.origin.headers(req.headers) : {};
    if (req.method === "OPTIONS") {
      res.writeHead(204, allowed ? { ...headers, ...PREFLIGHT } : {}).end();
      return;
    }
    if (!continues(url)) {
      const verdict = await judge(req);
      if ("refused" in verdict) return answerRequest(res, verdict.refused, headers);
      admissions.set(req, verdict.admitted);
    }
    for (const [name, value] of Object.entries(headers)) if (value !== undefined) res.setHeader(name, value);
    hideToken(req, url);
    engine.handleRequest(req as Parameters<Engine["handleRequest"]>[0], res);
  };

  const onUpgrade = async (req: IncomingMessage, socket: Duplex, head: Buffer): Promise<void> => {
    const url = urlOf(req);
    if (!url) return answerUpgrade(socket, refusal("BAD_REQUEST"));
    if (url.pathname !== ENGINE_PATH) return answerUpgrade(socket, refusal("NOT_FOUND"));
    if (!continues(url)) {
      const verdict = await judge(req);
      if ("refused" in verdict) {
        const headers = rules.origin.allows(req.headers) ? rules.origin.headers(req.headers) : {};
        return answerUpgrade(socket, verdict.refused, headers);
      }
      admissions.set(req, verdict.admitted);
    }
    hideToken(req, url);
    engine.handleUpgrade(req as Parameters<Engine["handleUpgrade"]>[0], socket, head);
  };

  http.on("request", (req, res) => {
    onRequest(req, res).catch((error) => {
      logger.error({ err: error }, "request failed");
      res.destroy();
    });
  });
  http.on("upgrade", (req: IncomingMessage, socket: Duplex, head: Buffer) => {
    // A client that goes away while it is judged must not end the process.
    socket.on("error", (error) => logger.debug({ err: error.message }, "upgrade socket error"));
    onUpgrade(req, socket, head).catch((error) => {
      logger.error({ err: error }, "upgrade failed");
      socket.destroy();
    });
  });

  return (request) => admissions.get(request);
}

/** Nothing for a request line that is no address, such as `GET //[`. */
function urlOf(req: IncomingMessage): URL | undefined {
  const url = req.url ?? "/";
  return URL.canParse(url, "http://node") ? new URL(url, "http://node") : undefined;
}

/** Whether it belongs to a connection that exists. Of several `sid`, Engine.IO takes the last; an empty one is none. */
function continues(url: URL): boolean {
  return Boolean(url.searchParams.getAll("sid").at(-1));
}

/** The request lives as long as its connection, and Socket.IO shows its address and headers to others. */
function hideToken(req: IncomingMessage, url: URL): void {
  delete req.headers.authorization;
  if (!url.searchParams.has("token")) return;
  url.searchParams.delete("token");
  req.url = url.pathname + url.search;
}
