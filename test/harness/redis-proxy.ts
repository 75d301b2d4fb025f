import { once } from "node:events";
import { type AddressInfo, connect, createServer, type Socket } from "node:net";
import { onTeardown } from "./teardown.js";

interface Line {
  client: Socket;
  upstream: Socket | undefined;
  /** Whatever comes on it goes nowhere, and nobody is told. */
  isDead: boolean;
}

/** An address in front of a Redis: what happens to a network happens here. {@link lead} says where it leads. */
export async function openRedisProxy() {
  const lines = new Set<Line>();
  let port = 0;
  let swallows = false;

  const server = createServer((client) => {
    const line: Line = {
      client,
      upstream: swallows ? undefined : connect(port, "127.0.0.1"),
      isDead: swallows,
    };
    const { upstream } = line;
    lines.add(line);
    client.setNoDelay();
    client.on("data", (data) => line.isDead || upstream?.write(data));
    client.on("error", () => {});
    client.on("close", () => {
      lines.delete(line);
      upstream?.destroy();
    });
    upstream?.setNoDelay();
    upstream?.on("data", (data) => line.isDead || client.write(data));
    upstream?.on("error", () => {});
    // A dead line stays open: the side that is not told believes in it.
    upstream?.on("close", () => line.isDead || client.destroy());
  });
  server.listen(0, "127.0.0.1");
  await once(server, "listening");
  onTeardown(async () => {
    for (const { client, upstream } of lines) {
      client.destroy();
      upstream?.destroy();
    }
    server.close();
    await once(server, "close");
  });

  return {
    url: `redis://127.0.0.1:${(server.address() as AddressInfo).port}`,
    /** New connections go to this port from now on; those that are there stay where they are. */
    lead(to: number): void {
      port = to;
    },
    get size(): number {
      return lines.size;
    },
    /** Cuts every connection. */
    cut(): void {
      for (const { client } of lines) client.destroy();
    },
    /** A black hole: connections stay and new ones are accepted, and nothing is passed on. Those are dead for ever. */
    swallow(): void {
      swallows = true;
      for (const line of lines) line.isDead = true;
    },
    /** New connections are served again. */
    serve(): void {
      swallows = false;
    },
  };
}

export type RedisProxy = Awaited<ReturnType<typeof openRedisProxy>>;
