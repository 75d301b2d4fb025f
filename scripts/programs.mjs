import { accessSync, constants, readdirSync, statSync } from "node:fs";
import { delimiter, join } from "node:path";
import { aptInstall } from "./apt.mjs";

const FURTHER_FOLDERS = ["/usr/sbin", "/usr/local/bin", "/opt/homebrew/bin"];
/** Debian and Ubuntu keep the servers of each version of PostgreSQL in a folder that is in no PATH. */
const POSTGRES_VERSIONS = "/usr/lib/postgresql";
/** Packages of Debian and Ubuntu are for this one, whatever other Python comes first in PATH. */
const DEBIANS_PYTHON = "/usr/bin/python3";

const folders = () => [...(process.env.PATH ?? "").split(delimiter), ...FURTHER_FOLDERS].filter(Boolean);

/**
 * @param {string[]} names in the order of preference
 * @returns {string | undefined} the path of the first that can be run
 */
export function findProgram(names) {
  return names.flatMap((name) => folders().map((folder) => join(folder, name))).find(isExecutable);
}

/** @returns {string | undefined} the folder of PostgreSQL's programs, of the newest version that is whole */
export function findPostgres() {
  const versions = namesIn(POSTGRES_VERSIONS).sort((a, b) => Number(b) - Number(a));
  return [...versions.map((version) => join(POSTGRES_VERSIONS, version, "bin")), ...folders()].find(
    (folder) => ["initdb", "postgres"].every((name) => isExecutable(join(folder, name))),
  );
}

/**
 * @param {import("./processes.mjs").Processes} processes
 * @returns {Promise<string>}
 * @throws Failure where there is none and none can be installed
 */
export async function provideRedisServer(processes) {
  const names = ["redis-server", "valkey-server"];
  const found = findProgram(names);
  if (found) return found;
  await aptInstall(processes, ["redis-server"], "there is no redis-server or valkey-server here");
  return required(names);
}

/**
 * @param {import("./processes.mjs").Processes} processes
 * @returns {Promise<string>}
 * @throws Failure where there is none and none can be installed
 */
export async function provideChromium(processes) {
  const names = ["chromium", "chromium-browser", "google-chrome", "google-chrome-stable"];
  const found = findProgram(names);
  if (found) return found;
  await aptInstall(processes, ["chromium"], "the browser tests need one");
  return required(names);
}

/**
 * @param {import("./processes.mjs").Processes} processes
 * @returns {Promise<string>} the folder of its programs
 * @throws Failure where there is none and none can be installed
 */
export async function providePostgres(processes) {
  const found = findPostgres();
  if (found) return found;
  await aptInstall(processes, ["postgresql"], "tests of row-level security need one");
  const installed = findPostgres();
  if (!installed) throw new Error("apt-get installed postgresql, and still there is no initdb");
  return installed;
}

/**
 * @param {import("./processes.mjs").Processes} processes
 * @returns {Promise<string>}
 * @throws Failure where there is none and none can be installed
 */
export async function provideNginx(processes) {
  const names = ["nginx"];
  const found = findProgram(names);
  if (found) return found;
  await aptInstall(processes, names, "tests of nodes behind nginx need one");
  return required(names);
}

/**
 * A Python whose Socket.IO client is Debian's: as foreign as a client can be.
 * @param {import("./processes.mjs").Processes} processes
 * @returns {Promise<string>}
 * @throws Failure where there is none and none can be installed
 */
export async function providePython(processes) {
  const hasClient = async () =>
    (await processes.run(DEBIANS_PYTHON, ["-c", "import socketio, websocket, requests"])).ok;
  if (await hasClient()) return DEBIANS_PYTHON;
  const packages = ["python3-socketio", "python3-websocket", "python3-requests"];
  await aptInstall(processes, packages, "tests with a client in another language need one");
  if (!(await hasClient()))
    throw new Error(`apt-get installed ${packages[0]}, and still Python has no socketio`);
  return DEBIANS_PYTHON;
}

/** @param {string[]} names */
function required(names) {
  const found = findProgram(names);
  if (!found) throw new Error(`apt-get installed ${names[0]}, and still there is no such program`);
  return found;
}

/** @param {string} folder */
function namesIn(folder) {
  try {
    return readdirSync(folder);
  } catch (error) {
    if (/** @type {NodeJS.ErrnoException} */ (error).code === "ENOENT") return [];
    throw error;
  }
}

/** @param {string} file */
function isExecutable(file) {
  try {
    accessSync(file, constants.X_OK);
    return statSync(file).isFile();
  } catch {
    return false;
  }
}
