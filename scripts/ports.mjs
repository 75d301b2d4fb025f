import { createServer } from "node:net";

/**
 * @param {number} port 0 for any
 * @param {string} [host] all addresses when absent
 * @returns {Promise<number | undefined>} the port, or nothing when it is taken
 */
function tryPort(port, host) {
  return new Promise((resolve) => {
    const server = createServer();
    server.once("error", () => resolve(undefined));
    server.listen({ port, ...(host && { host }) }, () => {
      const address = server.address();
      server.close(() => resolve(address && typeof address === "object" ? address.port : undefined));
    });
  });
}

/**
 * The first free ports from `from` on.
 * @param {number} from
 * @param {number} count
 */
export async function freePortsFrom(from, count) {
  const ports = [];
  for (let port = from; ports.length < count && port < 65_536; port++) {
    if ((await tryPort(port)) !== undefined) ports.push(port);
  }
  return ports;
}

/** Any free port of the loopback address. */
export async function freePort() {
  const port = await tryPort(0, "127.0.0.1");
  if (port === undefined) throw new Error("the system gave no free port");
  return port;
}
