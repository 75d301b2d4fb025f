import type { Server as HttpServer, IncomingMessage, OutgoingHttpHeaders, ServerResponse } from "node:http";
import type { Duplex } from "node:stream";
import { type Code, refusal } from "@agentwire/shared";
import type { Server as Engine } from "engine.io";
import type { Logger } from "pino";
import { answerRequest, answerUpgrade } from "./answer.js";
import {
  type Admission,
  type HandshakeRules,
  judgeHandshake,
  type Refused,
  type Verdict,
} from "./handshake.js";
import { judgeSession, type SessionRules, sessionOf } from "./session.js";

export const ENGINE_PATH = "/socket.io/";

const PREFLIGHT = {
  "Access-Control-Allow-Methods": "GET, POST",
  "Access-Control-Allow-Headers": "Authorization, Content-Type",
  "Access-Control-Max-Age": "600",
};

export interface DoorOptions {
  rules: HandshakeRules & SessionRules;
  /** Told of each handshake: the code of the refusal, or "admitted". */
  onVerdict(
    verdict: Code | "admitted",
    about: { transport: "polling" | "websocket"; ip: string; userId?: string },
  ): void;
  /** Called for whoever was admitted and never opened a connection. */
  onAbandoned(admission: Admission): void;
  /** Gets every other path. */
  elsewhere(req: IncomingMessage, res: ServerResponse): void;
  logger: Logger;
}

/**
 * Stands before Engine.IO on both of its ways in, because Engine.IO can answer a refusal only with 400 or 403.
 *
 * @returns takes what was admitted with a request, once; Engine.IO hands that same request to its connection
 */
export function openDoor(
  http: HttpServer,
  engine: Engine,
  { rules, onVerdict, onAbandoned, elsewhere, logger }: DoorOptions,
): (request: IncomingMessage) => Admission | undefined {
  const admissions = new WeakMap<IncomingMessage, Admission>();
  const take = (request: IncomingMessage) => {
    const admission = admissions.get(request);
    admissions.delete(request);
    return admission;
  };

  /** A refusal, or nothing where Engine.IO may have the request. */
  const judge = async (
    req: IncomingMessage,
    url: URL,
    upgrade: boolean,
    answer: ServerResponse | Duplex,
  ): Promise<Refused | undefined> => {
    const sid = sessionOf(url.searchParams);
    if (sid !== undefined) {
      const refused = await judgeSession(req, sid, url.searchParams, rules);
      return refused && { refused };
    }
    const verdict: Verdict = await judgeHandshake(req, url.searchParams, upgrade, rules).catch((error) => {
      complain(error);
      return { refused: refusal("UNAVAILABLE") };
    });
    const refused = "refused" in verdict ? verdict : undefined;
    const userId = "admitted" in verdict ? verdict.admitted.user.id : verdict.userId;
    onVerdict(refused?.refused.code ?? "admitted", {
      transport: upgrade ? "websocket" : "polling",
      ip: rules.address(req),
      ...(userId !== undefined && { userId }),
    });
    if ("admitted" in verdict) admit(req, verdict.admitted, answer);
    return refused;
  };

  const admit = (req: IncomingMessage, admission: Admission, answer: ServerResponse | Duplex): void => {
    admissions.set(req, admission);
    const abandon = () => {
      const left = take(req);
      if (left) onAbandoned(left);
    };
    if (req.socket.destroyed) abandon();
    else answer.once("close", abandon);
  };

  /** Once a second at most: while a database is away there is one for each who knocks. */
  let complained = Number.NEGATIVE_INFINITY;
  const complain = (error: unknown): void => {
    if (performance.now() - complained < 1000) return;
    complained = performance.now();
    logger.error({ err: String(error) }, "handshake could not be judged");
  };

  const headersFor = (req: IncomingMessage): OutgoingHttpHeaders =>
    rules.origin.allows(req.headers) ? rules.origin.headers(req.headers) : {};

  const onRequest = async (req: IncomingMessage, res: ServerResponse): Promise<void> => {
    const url = urlOf(req);
    if (!url) return answerRequest(res, refusal("BAD_REQUEST"));
    if (url.pathname !== ENGINE_PATH) return elsewhere(req, res);
    const headers = headersFor(req);
    if (req.method === "OPTIONS") {
      const allowed = rules.origin.allows(req.headers);
      res.writeHead(204, allowed ? { ...headers, ...PREFLIGHT } : {}).end();
      return;
    }
    const refused = await judge(req, url, false, res);
    if (refused) return answerRequest(res, refused.refused, { ...headers, ...retryAfter(refused) });
    for (const [name, value] of Object.entries(headers)) if (value !== undefined) res.setHeader(name, value);
    // A client that is gone would leave a connection that nobody reads.
    if (req.socket.destroyed) return;
    hideSecrets(req, url);
    engine.handleRequest(req as Parameters<Engine["handleRequest"]>[0], res);
  };

  const onUpgrade = async (req: IncomingMessage, socket: Duplex, head: Buffer): Promise<void> => {
    const url = urlOf(req);
    if (!url) return answerUpgrade(socket, refusal("BAD_REQUEST"));
    if (url.pathname !== ENGINE_PATH) return answerUpgrade(socket, refusal("NOT_FOUND"));
    const refused = await judge(req, url, true, socket);
    if (refused)
      return answerUpgrade(socket, refused.refused, { ...headersFor(req), ...retryAfter(refused) });
    if (socket.destroyed) return;
    hideSecrets(req, url);
    engine.handleUpgrade(req as Parameters<Engine["handleUpgrade"]>[0], socket, head);
  };

  http.on("request", (req, res) => {
    onRequest(req, res).catch((error) => {
      logger.error({ err: String(error) }, "request failed");
      res.destroy();
    });
  });
  http.on("upgrade", (req: IncomingMessage, socket: Duplex, head: Buffer) => {
    // A client that goes away while it is judged must not end the process.
    socket.on("error", (error) => logger.debug({ err: error.message }, "upgrade socket error"));
    onUpgrade(req, socket, head).catch((error) => {
      logger.error({ err: String(error) }, "upgrade failed");
      socket.destroy();
    });
  });

  return take;
}

/** Nothing for a request line that is no address, such as `GET //[`. */
function urlOf(req: IncomingMessage): URL | undefined {
  const url = req.url ?? "/";
  return URL.canParse(url, "http://node") ? new URL(url, "http://node") : undefined;
}

function retryAfter({ retryAfterMs }: Refused): OutgoingHttpHeaders {
  return retryAfterMs === undefined ? {} : { "Retry-After": Math.ceil(retryAfterMs / 1000) };
}

const SECRET = /auth|cookie|jwt|secret|session|token|api-?key|service-key/i;

/** The request lives as long as its connection, and Socket.IO shows its address and headers to others. */
function hideSecrets(req: IncomingMessage, url: URL): void {
  for (const name of Object.keys(req.headers)) if (SECRET.test(name)) delete req.headers[name];
  const secrets = [...url.searchParams.keys()].filter((name) => SECRET.test(name));
  if (secrets.length === 0) return;
  for (const name of secrets) url.searchParams.delete(name);
  req.url = url.pathname + url.search;
}
