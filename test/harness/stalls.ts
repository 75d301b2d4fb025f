import { onTeardown } from "./teardown.js";

const TICK_MS = 5;
const LATE_MS = 15;

/**
 * Watches how long this process stood still: what it could not see meanwhile, or see only later, is nobody's fault.
 * `total()` since the last call of `reset()`; `longest()` of one piece.
 */
export function watchStalls() {
  let last = performance.now();
  let total = 0;
  let longest = 0;
  const timer = setInterval(() => {
    const now = performance.now();
    const late = now - last;
    if (late > LATE_MS) {
      total += late;
      longest = Math.max(longest, late);
    }
    last = now;
  }, TICK_MS);
  onTeardown(() => clearInterval(timer));
  return {
    total: () => total,
    longest: () => longest,
    reset(): void {
      total = 0;
      longest = 0;
      last = performance.now();
    },
  };
}
