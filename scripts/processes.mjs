import { spawn } from "node:child_process";
import { once } from "node:events";
import { readdirSync, readFileSync } from "node:fs";
import { setTimeout as sleep } from "node:timers/promises";

/** @typedef {import("node:child_process").ChildProcess} ChildProcess */

/**
 * Child processes, each with all that it starts in turn in a process group of its own: what a terminal sends to the
 * foreground does not reach them, we end them in our order, and none outlives us.
 */
export class Processes {
  /** @type {Set<number>} */
  #groups = new Set();

  constructor() {
    process.on("exit", () => {
      for (const group of this.#groups) signalGroup(group, "SIGKILL");
    });
  }

  /**
   * @param {string} file
   * @param {string[]} args
   * @param {import("node:child_process").SpawnOptions} [options]
   * @returns {ChildProcess} which may still emit "error"
   */
  start(file, args, options = {}) {
    const child = spawn(file, args, { stdio: ["ignore", "inherit", "inherit"], ...options, detached: true });
    const group = child.pid;
    if (group !== undefined) {
      this.#groups.add(group);
      child.once("exit", () => {
        if (membersOf(group).length === 0) this.#groups.delete(group);
      });
    }
    return child;
  }

  /**
   * Runs to the end, and keeps what it writes.
   * @param {string} file
   * @param {string[]} args
   * @param {import("node:child_process").SpawnOptions} [options]
   * @returns {Promise<{ ok: boolean, output: string }>}
   */
  async run(file, args, options = {}) {
    const child = this.start(file, args, { ...options, stdio: ["ignore", "pipe", "pipe"] });
    let output = "";
    const keep = (/** @type {Buffer} */ data) => {
      output += data;
    };
    child.stdout?.on("data", keep);
    child.stderr?.on("data", keep);
    try {
      const [code] = await once(child, "close");
      return { ok: code === 0, output: output.trim() };
    } catch (error) {
      return { ok: false, output: `${file}: ${/** @type {Error} */ (error).message}` };
    }
  }

  /**
   * Asks a child and all it started to end, and makes them.
   * @param {ChildProcess} child
   * @param {number} [graceMs]
   */
  async stop(child, graceMs = 5000) {
    const group = child.pid;
    if (group === undefined || !this.#groups.has(group)) return;
    signalGroup(group, "SIGTERM");
    if (!(await isGone(group, graceMs))) {
      signalGroup(group, "SIGKILL");
      await isGone(group, 1000);
    }
    this.#groups.delete(group);
  }
}

/**
 * @param {number} group
 * @param {number} withinMs
 */
export async function isGone(group, withinMs) {
  for (const until = Date.now() + withinMs; membersOf(group).length > 0; await sleep(20)) {
    if (Date.now() > until) return false;
  }
  return true;
}

/**
 * What still runs in a process group. On Linux from /proc, because a dead process that nobody reaped counts for
 * kill(2) as one that lives.
 * @param {number} group
 * @returns {string[]} `pid name`
 */
export function membersOf(group) {
  if (process.platform !== "linux") return signalGroup(group, 0) ? [`group ${group}`] : [];
  return readdirSync("/proc")
    .filter((name) => /^\d+$/.test(name))
    .flatMap((pid) => {
      const stat = readIfThere(`/proc/${pid}/stat`);
      const [state, , itsGroup] = stat.slice(stat.lastIndexOf(")") + 2).split(" ");
      if (Number(itsGroup) !== group || state === "Z") return [];
      return [`${pid} ${readIfThere(`/proc/${pid}/cmdline`).replaceAll("\0", " ").trim()}`];
    });
}

/** @param {string} file */
function readIfThere(file) {
  try {
    return readFileSync(file, "utf8");
  } catch {
    return ""; // It ended while we looked.
  }
}

/**
 * @param {number} group
 * @param {NodeJS.Signals | 0} signal
 */
function signalGroup(group, signal) {
  try {
    return process.kill(-group, signal);
  } catch (error) {
    if (/** @type {NodeJS.ErrnoException} */ (error).code === "ESRCH") return false;
    throw error;
  }
}
