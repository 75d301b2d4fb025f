import {
  cpSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  symlinkSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { basename, dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import { onTeardown } from "./teardown.js";

const ROOT = fileURLToPath(new URL("../..", import.meta.url));
const FOLDER = "/app";

interface Instruction {
  name: string;
  args: string;
}

export interface Copy {
  from?: string;
  sources: string[];
  target: string;
}

/** The instructions of each stage, FROM first. */
export function readDockerfile(): Instruction[][] {
  const text = readFileSync(join(ROOT, "Dockerfile"), "utf8")
    .replace(/^\s*#.*\n/gm, "")
    .replace(/\\\n/g, " ");
  const stages: Instruction[][] = [];
  for (const [, name = "", args = ""] of text.matchAll(/^([A-Z]+)\s+(.+)$/gm)) {
    if (name === "FROM") stages.push([]);
    stages.at(-1)?.push({ name, args: args.trim() });
  }
  return stages;
}

export const copiesOf = (stage: Instruction[]): Copy[] =>
  valuesOf("COPY", stage).map((args) => {
    const from = /^--from=(\w+) /.exec(args)?.[1];
    const paths = args.replace(/^--from=\w+ /, "").split(/\s+/);
    return { ...(from && { from }), sources: paths.slice(0, -1), target: paths.at(-1) as string };
  });

/** What stands behind this name in a stage, each time. */
export const valuesOf = (name: string, stage: Instruction[]): string[] =>
  stage.filter((one) => one.name === name).map(({ args }) => args);

/** Paths in the repository; a `*` may stand in the last part. */
export function matching(path: string): string[] {
  const [before, after, ...more] = basename(path).split("*");
  if (after === undefined) return existsSync(join(ROOT, path)) ? [path] : [];
  if (more.length > 0) throw new Error(`${path} has more than one *`);
  const folder = dirname(path);
  return readdirSync(join(ROOT, folder))
    .filter((name) => name.startsWith(before as string) && name.endsWith(after))
    .map((name) => join(folder, name));
}

/** The packages that `npm prune --omit=dev` leaves, where it leaves them; links to ours lead into the image. */
function installInto(folder: string): void {
  const { packages } = JSON.parse(readFileSync(join(ROOT, "package-lock.json"), "utf8")) as {
    packages: Record<string, { dev?: boolean; link?: boolean; resolved?: string }>;
  };
  for (const [path, { dev, link, resolved }] of Object.entries(packages)) {
    // A package within another one comes with it.
    if (dev || !/^node_modules\/(@[^/]+\/)?[^/]+$/.test(path)) continue;
    mkdirSync(dirname(join(folder, path)), { recursive: true });
    if (link) symlinkSync(join(folder, resolved as string), join(folder, path));
    else if (existsSync(join(ROOT, path))) cpSync(join(ROOT, path), join(folder, path), { recursive: true });
  }
}

/** A folder with the very files that the image has in its own, from the last build. It is gone after the test. */
export function layOutImage(): string {
  const image = mkdtempSync(join(tmpdir(), "agentwire-image-"));
  onTeardown(() => rmSync(image, { recursive: true, force: true }));
  for (const { sources, target } of copiesOf(readDockerfile().at(-1) as Instruction[])) {
    for (const source of sources) {
      const path = source.slice(FOLDER.length + 1);
      if (path === "node_modules") {
        installInto(image);
        continue;
      }
      const found = matching(path);
      if (found.length === 0) throw new Error(`the image has no ${path}`);
      for (const one of found) {
        const to = target.endsWith("/") ? join(image, target, basename(one)) : join(image, target);
        cpSync(join(ROOT, one), to, { recursive: true });
      }
    }
  }
  return image;
}

/** The program and its arguments of CMD or of a HEALTHCHECK, in the form that needs no shell. */
export function commandOf(instruction: string): string[] {
  const list = JSON.parse(instruction.slice(instruction.indexOf("["))) as unknown;
  if (!Array.isArray(list) || !list.every((one) => typeof one === "string"))
    throw new Error(`${instruction} is no list of words`);
  return list;
}
