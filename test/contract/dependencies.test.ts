import { readFileSync } from "node:fs";
import { fileURLToPath } from "node:url";
import { expect } from "chai";

const root = fileURLToPath(new URL("../..", import.meta.url));
const read = (path: string) => JSON.parse(readFileSync(root + path, "utf8"));

describe("the packages", () => {
  it("[contract] every ws in the tree is 8.23 or newer: older ones keep the answers to pings that nobody reads", () => {
    const { packages } = read("package-lock.json") as { packages: Record<string, { version: string }> };
    const copies = Object.entries(packages).filter(([path]) => /(^|\/)node_modules\/ws$/.test(path));
    expect(copies).to.not.deep.equal([]);
    for (const [path, { version }] of copies) {
      const [major = 0, minor = 0] = version.split(".").map(Number);
      expect(major * 1000 + minor, `${path} ${version}`).to.be.at.least(8023);
      expect(read(`${path}/package.json`).version, path).to.equal(version);
    }
  });
});
