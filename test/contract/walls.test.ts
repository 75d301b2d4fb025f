import { readdirSync, readFileSync } from "node:fs";
import { dirname, join, normalize } from "node:path";
import { fileURLToPath } from "node:url";
import { expect } from "chai";

const ROOT = fileURLToPath(new URL("../..", import.meta.url));
const WORKSPACES = ["shared", "emitter", "server", "client"];

interface Import {
  /** Path from the root of the repository. */
  from: string;
  /** The same for a file of ours; a package's name otherwise. */
  to: string;
  typesOnly: boolean;
}

const sources = new Map(
  WORKSPACES.flatMap((workspace) => {
    const folder = join(ROOT, workspace, "src");
    const names = readdirSync(folder, { recursive: true, encoding: "utf8" });
    return names
      .filter((name) => /\.tsx?$/.test(name))
      .map((name): [string, string] => [
        join(workspace, "src", name),
        readFileSync(join(folder, name), "utf8"),
      ]);
  }),
);

/** Every import of a file: static, for its effects alone, re-exported, at run time or within a type. */
function importsOf(from: string, text: string): Import[] {
  const found: Import[] = [];
  const add = (specifier: string, typesOnly: boolean) => {
    const to = specifier.startsWith(".")
      ? normalize(join(dirname(from), specifier)).replace(/\.js$/, ".ts")
      : specifier;
    found.push({ from, to, typesOnly });
  };
  for (const [, clause = "", specifier = ""] of text.matchAll(
    /^(?:import|export)\s(?:([^;"']*?)\sfrom\s)?["']([^"']+)["']/gm,
  )) {
    const names = /\{([\s\S]*)\}/.exec(clause)?.[1]?.split(",") ?? [];
    const named = names.map((name) => name.trim()).filter((name) => name !== "");
    const onlyNamed = /^\{[\s\S]*\}$/.test(clause.trim());
    const eachIsType = onlyNamed && named.length > 0 && named.every((name) => name.startsWith("type "));
    add(specifier, clause.startsWith("type ") || eachIsType);
  }
  for (const [, specifier = ""] of text.matchAll(/\bimport\(\s*["']([^"']+)["']/g)) add(specifier, false);
  return found;
}

const imports = [...sources].flatMap(([from, text]) => importsOf(from, text));
const within = (folder: string) => imports.filter(({ from }) => from.startsWith(`${folder}/`));
const told = (list: Import[]) => list.map(({ from, to }) => `${from} → ${to}`).sort();
const ours = ({ to }: Import) =>
  to.startsWith("@agentwire/") || WORKSPACES.some((name) => to.startsWith(`${name}/`));

/** Lines of code, without those that are comments. */
function* lines(except: string) {
  for (const [file, text] of sources) {
    if (file === except) continue;
    for (const [n, line] of text.split("\n").entries()) {
      if (!/^\s*(\/\/|\/?\*)/.test(line)) yield { where: `${file}:${n + 1}`, line };
    }
  }
}
const spelled = (pattern: RegExp, owner: string) => {
  expect(sources.get(owner), `${owner} spells it`).to.match(pattern);
  return [...lines(owner)].filter(({ line }) => pattern.test(line)).map(({ where }) => where);
};

describe("the walls", () => {
  it("[contract] the imports are found: those of every file, and those that are types only", () => {
    expect(sources.size).to.be.above(60);
    const some = importsOf(
      "server/src/node/x.ts",
      [
        'import "./effect.js";',
        'import a, { type B } from "../a.js";',
        'import type { C } from "./c.js";',
        "import {\n  type D,\n  type E,\n} from 'd';",
        'export * from "./f.js";',
        'export { type G, h } from "./g.js";',
        'const i = await import("i");',
      ].join("\n"),
    );
    expect(some.map(({ to, typesOnly }) => [to, typesOnly])).to.deep.equal([
      ["server/src/node/effect.ts", false],
      ["server/src/a.ts", false],
      ["server/src/node/c.ts", true],
      ["d", true],
      ["server/src/node/f.ts", false],
      ["server/src/node/g.ts", false],
      ["i", false],
    ]);
  });

  it("[contract] every import of a file of ours leads to one", () => {
    const broken = imports.filter(
      (one) => ours(one) && !one.to.startsWith("@agentwire/") && !sources.has(one.to),
    );
    expect(told(broken)).to.deep.equal([]);
  });

  it("[contract] shared imports nothing of ours, and a browser can load it", () => {
    const inShared = within("shared");
    expect(told(inShared.filter((one) => ours(one) && !one.to.startsWith("shared/src/")))).to.deep.equal([]);
    const forBrowsers = inShared.filter(({ from }) => !from.startsWith("shared/src/redis/"));
    const notThere = forBrowsers.filter(
      ({ to }) => to.startsWith("node:") || to.startsWith("shared/src/redis/"),
    );
    expect(told(notThere)).to.deep.equal([]);
  });

  it("[contract] emitter, client and server know shared and not each other; the client nothing of Redis", () => {
    const may: Record<string, string[]> = {
      emitter: ["@agentwire/shared", "@agentwire/shared/redis"],
      server: ["@agentwire/shared", "@agentwire/shared/redis"],
      client: ["@agentwire/shared", "@agentwire/shared/sequence"],
    };
    for (const [workspace, packages] of Object.entries(may)) {
      const strangers = within(workspace).filter(
        (one) => ours(one) && !one.to.startsWith(`${workspace}/src/`) && !packages.includes(one.to),
      );
      expect(told(strangers)).to.deep.equal([]);
    }
  });

  describe("inside the server", () => {
    /** `node` of `server/src/node/hub.ts`; the file itself where it stands in no folder. */
    const part = (path: string) => path.split("/")[2] ?? "";
    const crossing = within("server").filter(
      ({ from, to }) => to.startsWith("server/src/") && part(from) !== part(to),
    );

    it("[contract] redis and gate do not know each other, not even by type", () => {
      const pair = ["gate", "redis"];
      const both = crossing.filter(({ from, to }) => pair.includes(part(from)) && pair.includes(part(to)));
      expect(told(both)).to.deep.equal([]);
    });

    it("[contract] only gateway.ts and its rooms wire; main.ts starts it", () => {
      const byMain = crossing.filter(({ from }) => from === "server/src/main.ts");
      for (const { to } of byMain) expect(["gateway.ts", "config.ts", "ops"]).to.include(part(to));
      const wires = (from: string) => /^server\/src\/(gateway\/.*|gateway\.ts|main\.ts)$/.test(from);
      const others = crossing.filter(({ from }) => !wires(from));
      expect(told(others.filter(({ typesOnly }) => !typesOnly))).to.deep.equal([]);
      expect(told(others.filter(({ typesOnly }) => typesOnly))).to.deep.equal([
        // The port that says who may see what.
        "server/src/door/handshake.ts → server/src/access/policy.ts",
        "server/src/door/token.ts → server/src/access/policy.ts",
      ]);
    });
  });

  it("[contract] only shared/src/rooms.ts spells a room's name", () => {
    expect(spelled(/["'`](project|agent|task):/, "shared/src/rooms.ts")).to.deep.equal([]);
  });

  it("[contract] only shared/src/redis/keys.ts spells a Redis key", () => {
    expect(spelled(/["'`](ws:|\$\{[\w.]*prefix\}:)/i, "shared/src/redis/keys.ts")).to.deep.equal([]);
  });
});
