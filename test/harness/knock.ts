import { randomBytes } from "node:crypto";
import { type IncomingHttpHeaders, request } from "node:http";

export interface Answer {
  status: number;
  headers: IncomingHttpHeaders;
  body: string;
}

/** A handshake by hand: what came back, on either transport. An upgrade that succeeds is closed at once. */
export function knock(url: string, headers: Record<string, string> = {}, method = "GET"): Promise<Answer> {
  const upgrade = url.includes("transport=websocket") && {
    Connection: "Upgrade",
    Upgrade: "websocket",
    "Sec-WebSocket-Version": "13",
    "Sec-WebSocket-Key": randomBytes(16).toString("base64"),
  };
  return new Promise((resolve, reject) => {
    const asked = request(url, { method, headers: { ...upgrade, ...headers }, agent: false });
    asked.on("error", reject).on("upgrade", ({ headers }, socket) => {
      socket.destroy();
      resolve({ status: 101, headers, body: "" });
    });
    asked.on("response", async (answer) => {
      const chunks = await answer.toArray();
      resolve({
        status: answer.statusCode ?? 0,
        headers: answer.headers,
        body: Buffer.concat(chunks).toString(),
      });
    });
    asked.end();
  });
}
