import type { IncomingMessage } from "node:http";
import { BlockList, isIP, isIPv6 } from "node:net";

/** Takes what a proxy writes: `192.0.2.1`, `192.0.2.1:80`, `2001:db8::1`, `[2001:db8::1]:80`, `::ffff:192.0.2.1`. */
function addressIn(text: string): string | undefined {
  const bare = text
    .trim()
    .replace(/^\[(.*)\](?::\d+)?$/, "$1")
    .replace(/^(\d+\.\d+\.\d+\.\d+):\d+$/, "$1")
    .replace(/%.*$/, "")
    .replace(/^::ffff:(?=\d+\.\d+\.\d+\.\d+$)/i, "");
  return isIP(bare) ? bare : undefined;
}

function listOf(networks: string[]): BlockList {
  const list = new BlockList();
  for (const network of networks) {
    const [ip = "", bits] = network.split("/");
    const family = isIPv6(ip) ? "ipv6" : "ipv4";
    list.addSubnet(ip, bits === undefined ? (family === "ipv6" ? 128 : 32) : Number(bits), family);
  }
  return list;
}

/**
 * Finds the address a request comes from. Each proxy appends its own peer to `X-Forwarded-For`; so the list is read from
 * the end, and believed only as long as whoever wrote the entry is a proxy of ours. What stands before that a client may
 * have written itself.
 *
 * @param trusted addresses and networks (CIDR, IPv4 and IPv6) of our own proxies
 */
export function createAddressRule(trusted: string[]): (req: IncomingMessage) => string {
  const proxies = listOf(trusted);
  const isOurs = (address: string) => proxies.check(address, isIPv6(address) ? "ipv6" : "ipv4");

  return (req) => {
    let address = addressIn(req.socket.remoteAddress ?? "") ?? "";
    if (trusted.length === 0) return address;
    const hops = [req.headers["x-forwarded-for"] ?? []].flat().join(",").split(",");
    while (address !== "" && isOurs(address)) {
      const before = addressIn(hops.pop() ?? "");
      if (before === undefined) break;
      address = before;
    }
    return address;
  };
}

/** What the limit per address counts as one: an IPv4 address, or the /64 network of an IPv6 one, which one host has. */
export function networkOf(address: string): string {
  if (!isIPv6(address)) return address;
  // The URL parser spells every IPv6 address in one way.
  const short = new URL(`http://[${address}]`).hostname.slice(1, -1);
  const [head = "", tail] = short.split("::");
  const left = head === "" ? [] : head.split(":");
  const right = !tail ? [] : tail.split(":");
  const zeros = tail === undefined ? [] : Array<string>(8 - left.length - right.length).fill("0");
  return `${[...left, ...zeros, ...right].slice(0, 4).join(":")}::/64`;
}
