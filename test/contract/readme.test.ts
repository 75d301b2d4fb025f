import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import { existsSync, readdirSync, readFileSync, writeFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import { redisKeys } from "@agentwire/shared/redis";
import { expect } from "chai";
import { settings } from "../../server/src/config.js";
import { startCluster } from "../harness/cluster.js";
import { needs } from "../harness/needs.js";
import { onTeardown } from "../harness/teardown.js";
import { token } from "../harness/token.js";
import { until } from "../harness/wait.js";

const root = fileURLToPath(new URL("../..", import.meta.url));
const read = (path: string): string => readFileSync(join(root, path), "utf8");
const decisions = readdirSync(join(root, "docs/adr")).filter((name) => /^\d{4}-/.test(name));

const markdownIn = (folder: string): string[] =>
  readdirSync(join(root, folder))
    .filter((name) => name.endsWith(".md"))
    .map((name) => join(folder, name));
const documents = [...markdownIn("."), ...markdownIn("docs"), ...markdownIn("docs/adr")];

/** Everything between this heading and the next one of its level. */
function section(text: string, heading: string): string {
  const found = text.split(/^(?=## )/m).find((part) => part.startsWith(`## ${heading}\n`));
  if (!found) throw new Error(`there is no section "${heading}"`);
  return found;
}

/** What stands in the table for a setting that is absent. */
function defaultOf(setting: (typeof settings)[keyof typeof settings]): string {
  const [first, second] = [setting.safeParse(undefined), setting.safeParse(undefined)];
  if (!first.success) return "required";
  if (first.data !== second.data && !Array.isArray(first.data)) return "made at start";
  const isNone = first.data === undefined || (Array.isArray(first.data) && first.data.length === 0);
  return isNone ? "none" : `\`${first.data}\``;
}

const ROW = /^\| `([A-Z_]+)` \| (.*?) \| ?(.*?) ?\|$/gm;

describe("the documents", () => {
  it("[contract] README's table and config.ts name the same settings with the same defaults", () => {
    const names = Object.keys(settings) as (keyof typeof settings)[];
    const readme = read("README.md");
    const table = section(readme, "Settings");
    const known = new Map([...table.matchAll(ROW)].map(([, name, value, about]) => [name, { value, about }]));
    const due = names.map((name) => ({
      name,
      value: defaultOf(settings[name]),
      about: known.get(name)?.about ?? "",
    }));
    if (process.env.UPDATE_DOCS === "1") {
      const rows = due.map(({ name, value, about }) => `| \`${name}\` | ${value} | ${about} |`);
      const fresh = table.replace(/^(\|---.*\n)(\|.*\n)*/m, (_, rule) => `${rule}${rows.join("\n")}\n`);
      writeFileSync(
        join(root, "README.md"),
        readme.replace(table, () => fresh),
      );
    }
    const there = [...section(read("README.md"), "Settings").matchAll(ROW)];
    expect(there.map(([, name, value]) => ({ name, value }))).to.deep.equal(
      due.map(({ name, value }) => ({ name, value })),
    );
    for (const [, name, , about] of there) expect(about, `meaning of ${name}`).to.not.equal("");
  });

  for (const document of documents) {
    it(`[contract] ${document}: every file and npm script that it names exists`, () => {
      const text = read(document).replace(/https?:\/\/[^\s)]+/g, "");
      const here = dirname(document);
      const linked = [...text.matchAll(/\]\(([^)#\s]+)/g)].map(([, target = ""]) => join(here, target));
      expect(linked.filter((path) => !existsSync(join(root, path)))).to.deep.equal([]);

      const named = text.matchAll(
        /(?<![\w./-])(?:[\w.-]+\/)+[\w.-]+\.(?:[cm]?[jt]s|lua|md|json|html|css)\b/g,
      );
      const missing = [...named]
        .map(([path]) => path)
        // Built, and so not in the repository.
        .filter((path) => !path.includes("/dist/"))
        .filter((path) => !existsSync(join(root, path)) && !existsSync(join(root, here, path)));
      expect(missing).to.deep.equal([]);

      const scripts: Record<string, string> = JSON.parse(read("package.json")).scripts;
      const asked = [...text.matchAll(/\bnpm (?:run ([\w:-]+)|(start|test)\b)/g)].map(([, a, b]) => a ?? b);
      expect(asked.filter((name) => !Object.hasOwn(scripts, name as string))).to.deep.equal([]);
    });
  }

  it("[contract] every function that stands beside a file is in that file", () => {
    let found = 0;
    for (const document of documents) {
      for (const [, path = "", name = ""] of read(document).matchAll(
        /`([\w./-]+\.(?:ts|mjs|js|lua))`\s+`(\w+)\(/g,
      )) {
        found++;
        expect(read(path), `${path}, named in ${document}`).to.match(new RegExp(`\\b${name}\\b`));
      }
    }
    expect(found).to.be.above(20);
  });

  it("[contract] every decision is in the index, dated, and has its four parts", () => {
    const index = read("docs/adr/README.md");
    const listed = [...index.matchAll(/^\| \[(\d{4})\]\((.+?)\) \| (.+?) \| (.+?) \|$/gm)];
    expect(listed.map(([, , file]) => file)).to.deep.equal(decisions);
    for (const [position, [, number, file, title, date]] of listed.entries()) {
      expect(Number(number)).to.equal(position + 1);
      const text = read(`docs/adr/${file}`);
      expect(text.startsWith(`# ${number}: ${title}\n\n${date}\n\n`), `title and date of ${file}`).to.equal(
        true,
      );
      const headings = [...text.matchAll(/^## (.+)$/gm)].map(([, heading]) => heading);
      expect(headings, file).to.deep.equal(["Context", "Decision", "Consequences", "Instead of"]);
      expect(text.split("\n").length, `${file} is one page`).to.be.below(80);
    }
  });
});

describe("README's programs", () => {
  needs("REDIS");

  /** Runs a program with what npm start would have printed. */
  function run(program: string, env: NodeJS.ProcessEnv) {
    const child: ChildProcess = spawn(process.execPath, ["--input-type=module"], {
      cwd: root,
      env: { PATH: process.env.PATH, ...env },
      stdio: ["pipe", "pipe", "pipe"],
    });
    const exited = once(child, "exit");
    onTeardown(async () => {
      child.kill("SIGKILL");
      await exited;
    });
    let output = "";
    for (const stream of [child.stdout, child.stderr]) {
      stream?.on("data", (data) => {
        output += data;
      });
    }
    child.stdin?.end(program);
    const says = (words: string) =>
      until(words, () => output.includes(words)).catch((error) => {
        throw new Error(`${(error as Error).message}\n${output}`);
      });
    return { says, exited };
  }

  it("[contract] run as they stand, and go on after kill -9", async () => {
    const cluster = await startCluster({ nodes: 2 });
    const programs = [...read("README.md").matchAll(/^```js\n(.+?)^```$/gms)].map(([, text = ""]) =>
      text
        .replaceAll("http://localhost:8080", cluster.node(1).url)
        .replaceAll("http://localhost:8081", cluster.node(2).url),
    );
    const env = { REDIS_URL: cluster.redis.url, TOKEN: token("user-1", ["demo"]) };
    /** The program with all of these words. */
    const start = (...words: string[]) => {
      const [program, ...more] = programs.filter((text) => words.every((word) => text.includes(word)));
      if (!program || more.length > 0) throw new Error(`README has not one program with ${words}`);
      return run(program, env);
    };
    const progress = cluster.redis.client();
    const steps: unknown[] = [];
    progress.on("message", (_, text) => {
      steps.push(JSON.parse(text).envelope.payload.current_step);
    });
    await progress.subscribe(redisKeys().progress("demo"));

    const stock = start('from "socket.io-client"');
    const ours = start('from "@agentwire/client"');
    await Promise.all([
      stock.says("node-1 recovered: false"),
      stock.says("0 agents"),
      ours.says("live node-1"),
    ]);
    const worker = start('from "@agentwire/emitter"', "agentStatus(");
    const task = start('from "@agentwire/emitter"', ".progress(");
    const terminal = start('from "@agentwire/emitter"', ".terminal(");
    expect(await worker.exited).to.deep.equal([0, null]);
    expect(await terminal.exited).to.deep.equal([0, null]);
    expect(await task.exited).to.deep.equal([0, null]);
    await until("the last step", () => steps.at(-1) === 20);
    await Promise.all([worker.says("duplicate: false"), stock.says("me stuck"), ours.says("me stuck")]);

    await cluster.node(1).kill();
    await ours.says("live node-2");
    await cluster.worker().agentStatus({ agent_id: "me", project_id: "demo", new_status: "cancelled" });
    await ours.says("me cancelled");
    await cluster.node(1).restart();
    await Promise.all([stock.says("node-1 recovered: true"), stock.says("1 missed, complete: true")]);
    await stock.says("me cancelled");
  });
});
