import { readdirSync } from "node:fs";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { explain, Failure } from "./failure.mjs";
import { runMocha } from "./mocha.mjs";
import { prepare } from "./prepare.mjs";
import { Processes } from "./processes.mjs";
import {
  provideChromium,
  provideNginx,
  providePostgres,
  providePython,
  provideRedisServer,
} from "./programs.mjs";
import { onStop } from "./signals.mjs";

const root = fileURLToPath(new URL("..", import.meta.url));
const isCi = process.env.CI === "true";

/** @param {Processes} processes */
async function lint(processes) {
  console.log("Linting (biome check) …");
  const { ok, output } = await processes.run(join(root, "node_modules/.bin/biome"), ["check", "."], {
    cwd: root,
  });
  if (!ok)
    throw new Failure(`${output}\n\nThe lint failed (biome check): npm run format mends what can be mended.`);
}

/**
 * The programs that tests need, as variables for them: where one is, or why there is none.
 * @param {Processes} processes
 */
async function providePrograms(processes) {
  /** @type {Record<string, string>} */
  const found = {};
  /** @param {string} thing @param {string} variable @param {() => Promise<string>} provide */
  const need = async (thing, variable, provide) => {
    try {
      found[variable] = await provide();
    } catch (error) {
      if (!(error instanceof Failure)) throw error;
      console.log(error.message);
      found[`AGENTWIRE_SKIP_${thing}`] = error.message.trim().split("\n").at(-1) ?? "";
    }
  };
  await need("REDIS", "AGENTWIRE_REDIS_SERVER", () => provideRedisServer(processes));
  await need("POSTGRES", "AGENTWIRE_POSTGRES", () => providePostgres(processes));
  await need("PYTHON", "AGENTWIRE_PYTHON", () => providePython(processes));
  await need("NGINX", "AGENTWIRE_NGINX", () => provideNginx(processes));
  if (readdirSync(join(root, "test/browser")).some((name) => name.endsWith(".test.ts"))) {
    await need("CHROMIUM", "AGENTWIRE_CHROMIUM", () => provideChromium(processes));
  }
  return found;
}

/** @param {Processes} processes @param {string[]} args */
async function test(processes, args) {
  await prepare(processes, { root });
  await lint(processes);
  const programs = await providePrograms(processes);
  // The tests have a Redis and a PostgreSQL of their own: the settings of this shell are not theirs.
  const { WS_KEY_PREFIX: _, EVENT_BUS_PREFIX: __, ...others } = process.env;
  const inherited = Object.fromEntries(
    Object.entries(others).filter(([name]) => !/^(PG[A-Z]|REDIS_)/.test(name)),
  );
  const { passed, failed, skipped, problems } = await runMocha(processes, {
    root,
    args: [...(isCi ? ["--forbid-only"] : []), ...args],
    env: { ...inherited, ...programs },
  });
  for (const problem of problems) console.log(problem);
  for (const { title, reason } of skipped) console.log(`Skipped: ${title} (${reason})`);
  if (isCi && skipped.length > 0) console.log("CI=true: a skipped test is a failure of the run.");
  if (passed + failed + skipped.length === 0) console.log("No test was run.");
  return { passed, failed: failed + problems.length, skipped: skipped.length };
}

const processes = new Processes();
onStop(() => process.exit(130));
const counts = await test(processes, process.argv.slice(2)).catch((error) => {
  console.log(explain(error));
  return { passed: 0, failed: 1, skipped: 0 };
});
const { passed, failed, skipped } = counts;
process.exitCode = failed > 0 || passed + skipped === 0 || (isCi && skipped > 0) ? 1 : 0;
console.log(`${passed} passed, ${failed} failed, ${skipped} skipped`);
