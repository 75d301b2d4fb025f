import { connect } from "node:net";

export interface Exchange {
  /** Of each answer, in order. */
  statuses: number[];
  text: string;
}

/**
 * Writes bytes, and reads until the other side has closed the connection: the last request among them must make it do so.
 * An answer's body must not look like an answer.
 */
export function exchange(url: string, bytes: string | Buffer): Promise<Exchange> {
  const { hostname, port } = new URL(url);
  return new Promise((resolve, reject) => {
    const socket = connect(Number(port), hostname);
    let text = "";
    socket.setEncoding("latin1").on("data", (part) => {
      text += part;
    });
    // What it wrote may stand before a reset all the same.
    socket.on("error", ({ message }) => {
      if (text === "") reject(new Error(message));
    });
    socket.on("close", () => {
      const statuses = [...text.matchAll(/HTTP\/1\.1 (\d{3}) /g)].map(([, status]) => Number(status));
      resolve({ statuses, text });
    });
    socket.write(bytes);
  });
}

/** One request as it goes over the line; `Connection: close` where nothing else is said. */
export function requestText(
  line: string,
  headers: Record<string, string | string[]> = {},
  body = "",
): string {
  const all = { Host: "127.0.0.1", Connection: "close", ...headers };
  const lines = Object.entries(all).flatMap(([name, value]) =>
    [value].flat().map((one) => `${name}: ${one}\r\n`),
  );
  return `${line} HTTP/1.1\r\n${lines.join("")}\r\n${body}`;
}
