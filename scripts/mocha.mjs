import { once } from "node:events";
import { existsSync, mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { isGone, membersOf } from "./processes.mjs";

const ALL = "test/**/*.test.ts";
const END_MS = 60_000;
const LEFT_MS = 5000;

/** @typedef {import("./reporter.mjs").Counts} Counts */

/**
 * Runs mocha. It must end by itself, and so must all that the tests started: what is left running counts as a failure.
 * @param {import("./processes.mjs").Processes} processes
 * @param {{ root: string, args: string[], env: NodeJS.ProcessEnv }} options
 * @returns {Promise<Counts & { problems: string[] }>} `problems`: failures beyond those of single tests
 */
export async function runMocha(processes, { root, args, env }) {
  const folder = mkdtempSync(join(tmpdir(), "agentwire-test-"));
  const removeFolder = () => rmSync(folder, { recursive: true, force: true });
  process.once("exit", removeFolder);
  const file = join(folder, "counts.json");
  const specs = args.some((arg) => existsSync(join(root, arg)) || arg.includes(".test.")) ? [] : [ALL];
  try {
    const mocha = processes.start(
      process.execPath,
      [
        join(root, "node_modules/mocha/bin/mocha.js"),
        "--reporter",
        "scripts/reporter.mjs",
        ...specs,
        ...args,
      ],
      { cwd: root, env: { ...env, AGENTWIRE_TEST_COUNTS: file, TMPDIR: folder } },
    );
    let isOver = false;
    const ended = once(mocha, "exit").finally(() => {
      isOver = true;
    });
    while (!isOver && !existsSync(file)) await Promise.race([ended, sleep(200)]);

    const problems = [];
    const enough = new AbortController();
    const [code, signal] = await Promise.race([
      ended,
      sleep(END_MS, ["hangs"], { signal: enough.signal }).catch(() => ["hangs"]),
    ]);
    enough.abort();
    const group = mocha.pid ?? 0;
    if (code === "hangs" || !(await isGone(group, LEFT_MS))) {
      problems.push(`The tests left something running:\n  ${membersOf(group).join("\n  ")}`);
      await processes.stop(mocha);
    }
    if (!existsSync(file)) {
      problems.push(`mocha ended without counts (${signal ?? `exit code ${code}`}).`);
      return { passed: 0, failed: 0, skipped: [], problems };
    }
    /** @type {Counts} */
    const counts = JSON.parse(readFileSync(file, "utf8"));
    if (counts.failed === 0 && problems.length === 0 && code !== 0) {
      problems.push(`mocha ended with ${signal ?? `exit code ${code}`}, though no test failed.`);
    }
    return { ...counts, problems };
  } finally {
    process.off("exit", removeFolder);
    removeFolder();
  }
}
