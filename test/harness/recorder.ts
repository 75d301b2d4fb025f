import { createServer, type IncomingMessage } from "node:http";
import type { AddressInfo } from "node:net";
import { onTeardown } from "./teardown.js";

export interface Asked {
  req: IncomingMessage;
  /** Of the recorder that was asked. */
  port: number;
  /** Of the body. */
  size: number;
}

/**
 * A program in a node's place that answers 503 to everybody, and shows what it was asked; several may have one list.
 */
export async function openRecorder(asked: Asked[] = []) {
  const server = createServer(async (req, res) => {
    const body = Buffer.concat(await req.toArray());
    asked.push({ req, port, size: body.length });
    res.writeHead(503).end();
  });
  server.on("upgrade", (req, socket) => {
    asked.push({ req, port, size: 0 });
    socket.end("HTTP/1.1 503 Service Unavailable\r\nContent-Length: 0\r\nConnection: close\r\n\r\n");
  });
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  const { port } = server.address() as AddressInfo;
  onTeardown(() => {
    server.closeAllConnections();
    server.close();
  });
  return { asked, port };
}
