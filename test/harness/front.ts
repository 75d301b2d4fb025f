import { once } from "node:events";
import { type AddressInfo, connect, createServer, type Socket } from "node:net";
import type { NodeProcess } from "./node.js";

/**
 * An address in front of the cluster, as a load balancer gives it: each new connection goes to the preferred node, or
 * to the next one that lives. Bytes are passed on as they come.
 */
export async function openFront(nodes: Pick<NodeProcess, "alive" | "port">[], first: number) {
  let preferred = first;
  const open = new Set<Socket>();
  const clients = new Set<Socket>();
  const server = createServer((client) => {
    const order = [...nodes.slice(preferred), ...nodes.slice(0, preferred)];
    const node = order.find((one) => one.alive);
    if (!node) return client.destroy();
    const upstream = connect(node.port, "127.0.0.1");
    clients.add(client);
    client.on("close", () => clients.delete(client));
    for (const [from, to] of [
      [client, upstream],
      [upstream, client],
    ] as const) {
      open.add(from);
      from.on("error", () => to.destroy());
      from.on("close", () => {
        open.delete(from);
        to.destroy();
      });
      from.pipe(to);
    }
  });
  server.listen(0, "127.0.0.1");
  await once(server, "listening");

  return {
    url: `http://127.0.0.1:${(server.address() as AddressInfo).port}`,
    /** New connections go to node `n` from now on. */
    prefer(n: number): void {
      preferred = n - 1;
    },
    /** Cuts every connection, as a network does. */
    cut(): void {
      for (const socket of open) socket.destroy();
    },
    /** The clients lose their connections, and the nodes do not notice: as a tunnel does it. */
    strand(): void {
      for (const socket of clients) {
        clients.delete(socket);
        socket.removeAllListeners("close");
        socket.destroy();
      }
    },
    async close(): Promise<void> {
      for (const socket of open) socket.destroy();
      server.close();
      await once(server, "close");
    },
  };
}

export type Front = Awaited<ReturnType<typeof openFront>>;
