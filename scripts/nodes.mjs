import { once } from "node:events";
import { join } from "node:path";
import { createInterface } from "node:readline";
import { Failure } from "./failure.mjs";

const READY_MS = 30_000;
const START_AGAIN_MS = 5000;
const WARN = 40;

/** @typedef {{ name: string, root: string, env: NodeJS.ProcessEnv }} NodeSettings */

/** One node of the demo's cluster. When it dies it says so, and comes back on the same port. */
export class Node {
  /** @type {import("node:child_process").ChildProcess | undefined} */
  #child;
  /** @type {NodeJS.Timeout | undefined} */
  #again;
  #stopping = false;

  /**
   * @param {import("./processes.mjs").Processes} processes
   * @param {NodeSettings} settings
   */
  constructor(processes, settings) {
    this.processes = processes;
    this.settings = settings;
  }

  get pid() {
    return this.#child?.pid;
  }

  /**
   * Resolves when the node listens.
   * @throws Failure with what it wrote when it does not come up
   */
  async start() {
    const { root, env } = this.settings;
    const child = this.processes.start(process.execPath, [join(root, "server/dist/main.js")], {
      cwd: root,
      env,
      stdio: ["ignore", "pipe", "pipe"],
    });
    this.#child = child;
    /** @type {string[]} */
    const written = [];
    let isUp = false;
    const listening = new Promise((resolve) => {
      for (const stream of [child.stdout, child.stderr]) {
        if (!stream) continue;
        createInterface({ input: stream }).on("line", (line) => {
          const entry = parseLog(line);
          if (entry.msg === "listening") return resolve(true);
          if (isUp && entry.level >= WARN) console.log(`${this.settings.name}: ${entry.msg}`);
          else written.push(entry.msg);
        });
      }
    });
    const ended = once(child, "exit").then(() => false);
    const timer = setTimeout(() => this.processes.stop(child), READY_MS);
    isUp = Boolean(await Promise.race([listening, ended]));
    clearTimeout(timer);
    if (!isUp)
      throw new Failure(`${this.settings.name} did not start: ${written.join("\n") || "it wrote nothing"}`);
    child.once("exit", (code, signal) => this.#died(signal ?? `exit code ${code}`));
  }

  async stop() {
    this.#stopping = true;
    clearTimeout(this.#again);
    if (this.#child) await this.processes.stop(this.#child);
  }

  /** @param {string} how */
  #died(how) {
    if (this.#stopping) return;
    console.log(`${this.settings.name} died (${how}). It starts again in ${START_AGAIN_MS / 1000} s.`);
    this.#again = setTimeout(() => this.#startAgain(), START_AGAIN_MS);
  }

  async #startAgain() {
    try {
      await this.start();
      console.log(`${this.settings.name} is back. Once more: kill -9 ${this.pid}`);
    } catch (error) {
      if (this.#stopping) return;
      if (!(error instanceof Failure)) throw error;
      this.#died(error.message);
    }
  }
}

/**
 * @param {string} line
 * @returns {{ msg: string, level: number }}
 */
function parseLog(line) {
  try {
    const { msg, level } = JSON.parse(line);
    return { msg: String(msg), level: typeof level === "number" ? level : WARN };
  } catch {
    return { msg: line, level: WARN }; // Not a log line: something the runtime wrote.
  }
}
