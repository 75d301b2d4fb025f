/**
 * Skips the tests of the surrounding `describe` where this machine has no `thing`: scripts/test.mjs tried to get it,
 * and its reason stands in `AGENTWIRE_SKIP_<thing>`. The reporter shows the reason with each test.
 */
export function needs(thing: "REDIS" | "CHROMIUM" | "POSTGRES" | "NGINX" | "PYTHON"): void {
  before(function () {
    const reason = process.env[`AGENTWIRE_SKIP_${thing}`];
    if (!reason) return;
    const suite = this.test?.parent;
    if (suite) Object.assign(suite, { skipReason: reason });
    this.skip();
  });
}
