import { once } from "node:events";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";

export const DEMO_PROJECT = "demo";

/**
 * Agents that do real work again and again, most through `agentwire run`: what the viewer sees is what these commands
 * really did. `flaky` fails when it ends in an odd second. `packer` is a program with the emitter in it, which a command
 * is not: so it can say how far it is.
 * @param {string} root
 * @param {string} folder
 */
function agents(root, folder) {
  const bin = (/** @type {string} */ name) => join(root, "node_modules/.bin", name);
  const out = join(folder, "build");
  return [
    {
      agent: "builder",
      task: "build",
      pauseMs: 4000,
      // Into a folder of its own: a node that starts again must not meet a half-written build.
      command: [bin("tsc"), "-p", "shared", "--outDir", out, "--tsBuildInfoFile", join(out, ".tsbuildinfo")],
    },
    { agent: "linter", task: "lint", pauseMs: 6000, command: [bin("biome"), "check", "."] },
    { agent: "historian", task: "history", pauseMs: 5000, command: ["git", "--no-pager", "log", "--stat"] },
    { agent: "surveyor", task: "survey", pauseMs: 8000, command: ["du", "-sh", "node_modules"] },
    {
      agent: "flaky",
      task: "try",
      pauseMs: 3000,
      command: ["sh", "-c", "sleep 2; exit $(($(date +%s) % 2))"],
    },
    {
      agent: "packer",
      task: "pack",
      pauseMs: 8000,
      worker: [join(root, "scripts/demo-packer.mjs"), join(root, "node_modules")],
    },
  ];
}

/**
 * @param {import("./processes.mjs").Processes} processes
 * @param {{ root: string, folder: string, env: NodeJS.ProcessEnv }} options
 */
export function startDemo(processes, { root, folder, env }) {
  const over = new AbortController();
  /** @type {Set<import("node:child_process").ChildProcess>} */
  const running = new Set();

  /** @param {ReturnType<typeof agents>[number]} agent */
  const work = async ({ agent, task, pauseMs, command = [], worker }) => {
    for (let round = 1; !over.signal.aborted; round++) {
      const about = ["--agent", agent, "--project", DEMO_PROJECT, "--task", `${task}-${round}`];
      const run = [join(root, "emitter/bin/agentwire.js"), "run", ...about, "--", ...command];
      const args = worker ? [...worker, ...about] : run;
      const child = processes.start(process.execPath, args, { cwd: root, env, stdio: "ignore" });
      running.add(child);
      await once(child, "exit");
      running.delete(child);
      await sleep(pauseMs, undefined, { signal: over.signal }).catch(() => {}); // Cut short by stop().
    }
  };

  const ended = Promise.all(agents(root, folder).map(work));
  return {
    /** Rejects when an agent cannot work at all. */
    ended,
    async stop() {
      over.abort();
      await Promise.all([...running].map((child) => processes.stop(child, 2000)));
      await Promise.allSettled([ended]);
    },
  };
}
