import { accessSync, constants, statSync } from "node:fs";
import { delimiter, join } from "node:path";
import { aptInstall } from "./apt.mjs";

const FURTHER_FOLDERS = ["/usr/sbin", "/usr/local/bin", "/opt/homebrew/bin"];

/**
 * @param {string[]} names in the order of preference
 * @returns {string | undefined} the path of the first that can be run
 */
export function findProgram(names) {
  const folders = [...(process.env.PATH ?? "").split(delimiter), ...FURTHER_FOLDERS].filter(Boolean);
  return names.flatMap((name) => folders.map((folder) => join(folder, name))).find(isExecutable);
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

/** @param {string[]} names */
function required(names) {
  const found = findProgram(names);
  if (!found) throw new Error(`apt-get installed ${names[0]}, and still there is no such program`);
  return found;
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
