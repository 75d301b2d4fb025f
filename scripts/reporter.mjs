import { writeFileSync } from "node:fs";
import mocha from "mocha";

const { EVENT_RUN_END, EVENT_TEST_PENDING } = mocha.Runner.constants;

/** @typedef {{ passed: number, failed: number, skipped: { title: string, reason: string }[] }} Counts */

/** Mocha's own output, and the counts in a file: test.mjs prints them after everything else. */
export default class CountingReporter extends mocha.reporters.Spec {
  /**
   * @param {import("mocha").Runner} runner
   * @param {import("mocha").MochaOptions} options
   */
  constructor(runner, options) {
    super(runner, options);
    /** @type {Counts["skipped"]} */
    const skipped = [];
    runner.on(EVENT_TEST_PENDING, (test) =>
      skipped.push({ title: test.fullTitle(), reason: reasonOf(test) }),
    );
    runner.once(EVENT_RUN_END, () => {
      const file = process.env.AGENTWIRE_TEST_COUNTS;
      const { passes, failures } = this.stats;
      if (file) writeFileSync(file, JSON.stringify({ passed: passes, failed: failures, skipped }));
    });
  }
}

/**
 * Set by test/harness/needs.ts on the suite that it skips.
 * @param {import("mocha").Test} test
 */
function reasonOf(test) {
  for (let suite = test.parent; suite; suite = suite.parent) {
    if ("skipReason" in suite) return String(suite.skipReason);
  }
  return "skipped in the test itself";
}
