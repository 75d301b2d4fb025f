import type { IncomingMessage } from "node:http";
import { expect } from "chai";
import { createAddressRule, networkOf } from "../../server/src/door/address.js";

const request = (remoteAddress: string, forwarded?: string | string[]) =>
  ({ socket: { remoteAddress }, headers: { "x-forwarded-for": forwarded } }) as unknown as IncomingMessage;

describe("the address of a client", () => {
  const believed: [string, string[], string, string | undefined, string][] = [
    ["nobody is trusted", [], "192.0.2.1", "198.51.100.7", "192.0.2.1"],
    ["no header", ["192.0.2.1"], "192.0.2.1", undefined, "192.0.2.1"],
    ["the peer is no proxy of ours", ["10.0.0.0/8"], "192.0.2.1", "198.51.100.7", "192.0.2.1"],
    ["one proxy", ["10.0.0.0/8"], "10.1.2.3", "198.51.100.7", "198.51.100.7"],
    ["what the client wrote itself", ["10.0.0.0/8"], "10.1.2.3", "203.0.113.9, 198.51.100.7", "198.51.100.7"],
    ["two proxies", ["10.0.0.0/8"], "10.1.2.3", "203.0.113.9, 198.51.100.7,10.9.9.9", "198.51.100.7"],
    ["all are proxies", ["10.0.0.0/8"], "10.1.2.3", "10.0.0.1, 10.0.0.2", "10.0.0.1"],
    ["rubbish at the end", ["10.0.0.0/8"], "10.1.2.3", "198.51.100.7, unknown", "10.1.2.3"],
    ["rubbish behind a proxy", ["10.0.0.0/8"], "10.1.2.3", "<script>, 10.0.0.2", "10.0.0.2"],
    ["an empty header", ["10.0.0.0/8"], "10.1.2.3", "", "10.1.2.3"],
    ["a port", ["10.0.0.0/8"], "10.1.2.3", "198.51.100.7:4711", "198.51.100.7"],
    ["IPv6 with a port", ["10.0.0.0/8"], "10.1.2.3", "[2001:db8::7]:4711", "2001:db8::7"],
    ["an IPv4 peer on an IPv6 socket", ["10.0.0.0/8"], "::ffff:10.1.2.3", "198.51.100.7", "198.51.100.7"],
    ["an IPv6 proxy", ["fd00::/8"], "fd12::1", "2001:db8::7", "2001:db8::7"],
    ["an IPv6 peer that is none", ["fd00::/8", "10.0.0.0/8"], "2001:db8::1", "198.51.100.7", "2001:db8::1"],
    ["one single IPv6 proxy", ["fd12::1"], "fd12::2", "2001:db8::7", "fd12::2"],
  ];
  for (const [what, trusted, peer, forwarded, expected] of believed) {
    it(`[D23] ${what}: ${expected}`, () => {
      expect(createAddressRule(trusted)(request(peer, forwarded))).to.equal(expected);
    });
  }

  it("[D23] several headers count as one, in their order", () => {
    const rule = createAddressRule(["10.0.0.0/8"]);
    expect(rule(request("10.1.2.3", ["203.0.113.9", "198.51.100.7, 10.0.0.1"]))).to.equal("198.51.100.7");
  });

  it("[D23] IPv6 is counted by its /64 network, however it is spelled; IPv4 by itself", () => {
    const same = ["2001:db8:1:2::1", "2001:DB8:1:2:ffff::", "2001:0db8:0001:0002:0:0:0:9"].map(networkOf);
    expect(new Set(same)).to.deep.equal(new Set(["2001:db8:1:2::/64"]));
    expect(networkOf("2001:db8:1:3::1")).not.to.equal(same[0]);
    expect(networkOf("::1")).to.equal("0:0:0:0::/64");
    expect(networkOf("192.0.2.1")).to.equal("192.0.2.1");
    expect(networkOf("")).to.equal("");
  });
});
