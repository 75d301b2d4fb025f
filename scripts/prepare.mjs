import { existsSync, statSync } from "node:fs";
import { join } from "node:path";
import { Failure } from "./failure.mjs";

const OLDEST_NODE = [20, 19];

/**
 * Installs the packages where they are missing or older than the lock file, and builds.
 * @param {import("./processes.mjs").Processes} processes
 * @param {{ root: string, projects?: string[] }} options `projects`: which to build; all when absent
 */
export async function prepare(processes, { root, projects = [] }) {
  checkNode();
  if (isInstallNeeded(root)) await install(processes, root);
  console.log("Building (tsc -b) …");
  const built = await processes.run(join(root, "node_modules/.bin/tsc"), ["-b", ...projects], { cwd: root });
  if (!built.ok) throw new Failure(`${built.output}\n\nThe build failed (tsc -b): the errors are above.`);
}

/**
 * @param {import("./processes.mjs").Processes} processes
 * @param {string} root
 */
async function install(processes, root) {
  const hasLock = existsSync(join(root, "package-lock.json"));
  const first = hasLock ? ["ci"] : ["install"];
  let { ok, output } = await npm(processes, root, first);
  // A lock file that was written where a registry had not every platform's packages is incomplete elsewhere. What it
  // does name is still installed as it says.
  if (!ok && hasLock && output.includes("EUSAGE")) {
    console.log("package-lock.json is incomplete for this machine:");
    ({ ok, output } = await npm(processes, root, ["install", "--no-save"]));
  }
  if (!ok) throw new Failure(`${output}\n\nThe packages could not be installed: npm's output is above.`);
}

/**
 * @param {import("./processes.mjs").Processes} processes
 * @param {string} root
 * @param {string[]} args
 */
function npm(processes, root, args) {
  console.log(`Installing packages (npm ${args.join(" ")}) …`);
  const all = [...args, "--include=dev", "--no-audit", "--no-fund"];
  const own = process.env.npm_execpath;
  return own?.endsWith(".js")
    ? processes.run(process.execPath, [own, ...all], { cwd: root })
    : processes.run("npm", all, { cwd: root });
}

function checkNode() {
  const [major = 0, minor = 0] = process.versions.node.split(".").map(Number);
  const [oldestMajor = 0, oldestMinor = 0] = OLDEST_NODE;
  if (major > oldestMajor || (major === oldestMajor && minor >= oldestMinor)) return;
  throw new Failure(`Node.js ${OLDEST_NODE.join(".")} or newer is needed; this is ${process.versions.node}.`);
}

/** @param {string} root */
function isInstallNeeded(root) {
  // npm writes this file last: where it is missing, an install was cut short.
  const installed = join(root, "node_modules/.package-lock.json");
  const lock = join(root, "package-lock.json");
  if (!existsSync(installed)) return true;
  return existsSync(lock) && statSync(lock).mtimeMs > statSync(installed).mtimeMs;
}
