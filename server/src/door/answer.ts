import { type OutgoingHttpHeaders, type ServerResponse, STATUS_CODES } from "node:http";
import type { Duplex } from "node:stream";
import { codes, type Refusal } from "@agentwire/shared";

const RETRY_AFTER_S = 1;

function contents(refusal: Refusal, extra: OutgoingHttpHeaders) {
  const { status, retry } = codes[refusal.code];
  const body = JSON.stringify({ error: refusal });
  const headers: OutgoingHttpHeaders = {
    "Content-Type": "application/json; charset=utf-8",
    "Content-Length": Buffer.byteLength(body),
    "Cache-Control": "no-store",
    ...(retry === "later" && { "Retry-After": RETRY_AFTER_S }),
    ...extra,
  };
  return { status, body, headers };
}

/** Answers a request that Engine.IO never sees. */
export function answerRequest(res: ServerResponse, refusal: Refusal, extra: OutgoingHttpHeaders = {}): void {
  const { status, body, headers } = contents(refusal, extra);
  res.writeHead(status, headers).end(body);
}

/** Answers an upgrade: Node gives only the bare socket for those. */
export function answerUpgrade(socket: Duplex, refusal: Refusal, extra: OutgoingHttpHeaders = {}): void {
  const { status, body, headers } = contents(refusal, { ...extra, Connection: "close" });
  const lines = Object.entries(headers).map(([name, value]) => `${name}: ${value}`);
  // Nothing times such a socket out: whoever kept its side open would have it for ever.
  socket.once("finish", () => socket.destroy());
  socket.end(`HTTP/1.1 ${status} ${STATUS_CODES[status]}\r\n${lines.join("\r\n")}\r\n\r\n${body}`);
}
