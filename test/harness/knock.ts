import { randomBytes } from "node:crypto";
import { type IncomingHttpHeaders, request } from "node:http";
import { seenByOutsiders } from "./secrets.js";

export interface Answer {
  status: number;
  headers: IncomingHttpHeaders;
  body: string;
}

/** A handshake by hand: what came back, on either transport. A connection that it opens is closed again. */
export async function knock(
  url: string,
  headers: Record<string, string> = {},
  method = "GET",
): Promise<Answer> {
  const answer = await ask(url, headers, method);
  if (answer.status !== 200 || !answer.body.startsWith("0")) return answer;
  const { sid } = JSON.parse(answer.body.slice(1)) as { sid: string };
  await ask(`${url}&sid=${sid}`, headers, "POST", "1");
  return answer;
}

function ask(url: string, headers: Record<string, string>, method: string, text?: string): Promise<Answer> {
  const upgrade = method !== "POST" &&
    url.includes("transport=websocket") && {
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
      const body = Buffer.concat(await answer.toArray()).toString();
      seenByOutsiders(body, "an answer of the door");
      resolve({ status: answer.statusCode ?? 0, headers: answer.headers, body });
    });
    asked.end(text);
  });
}
