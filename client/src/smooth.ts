/** How much of a new gap goes into the usual one. */
const WEIGHT = 0.3;
/** Updates of one task are gathered for this long on their way: what arrives closer together was held up together. */
const SHORTEST_GAP_MS = 100;
/** Of the usual gap: the value is there before the next update is due. */
const OF_GAP = 0.9;
/** However rare updates are, what is shown is never older than this. */
const LONGEST_EASE_MS = 5000;
/** For a last value, after which there is nothing to be smooth for. */
const QUICK_MS = 300;
/** The remaining time counts down for this many usual gaps without an update; then the task has slowed or stopped. */
const PATIENCE = 2;
/** Until there are two updates to tell the usual gap from. */
const ASSUMED_GAP_MS = 5000;

/** What one update says. */
export interface Reported {
  percent: number;
  /** Null while unknown. */
  secondsRemaining: number | null;
}

/**
 * How a task's progress moves from one update to the next. A value, never changed: what is shown at a time is computed
 * from it. All times are of one clock that does not go back, in milliseconds.
 *
 * Promise: the percentage never falls, never exceeds what was reported, and stands at it before the next update is due.
 * It does not run ahead along the observed rate. A task can stop at any moment, so every step beyond what was reported
 * may have to be taken back, or shows as done what is not.
 */
export interface Motion {
  readonly from: number;
  readonly to: number;
  /** Moves evenly between these two; stands at `from` before, at `to` from `endMs` on. */
  readonly startMs: number;
  readonly endMs: number;
  /** When the last update arrived, and what it said of the remaining time. */
  readonly heardMs: number;
  readonly secondsRemaining: number | null;
  /** Usual time between two updates, exponentially weighted. Unknown after one. */
  readonly gapMs: number | undefined;
}

/**
 * The motion after an update. The first one stands where it is at once: a page opened in the middle shows no 0 % that
 * was never reported. So does one below the last, which begins a new attempt.
 */
export function moveTo(before: Motion | undefined, reported: Reported, nowMs: number): Motion {
  const { percent: to, secondsRemaining } = reported;
  const heard = { heardMs: nowMs, secondsRemaining };
  if (!before || to < before.to) {
    return { from: to, to, startMs: nowMs, endMs: nowMs, gapMs: undefined, ...heard };
  }
  const gapMs = usualGap(before, nowMs);
  const easeMs = Math.min(OF_GAP * gapMs, LONGEST_EASE_MS, to === 100 ? QUICK_MS : Number.POSITIVE_INFINITY);
  const endMs = nowMs + easeMs;
  return {
    from: percentAt(before, nowMs),
    to,
    startMs: nowMs,
    // Said again, with other words: it is reached when it would have been.
    endMs: to === before.to ? Math.min(before.endMs, endMs) : endMs,
    gapMs,
    ...heard,
  };
}

/** The motion when no further update is due: the last value is reached quickly, and no time remains to be told. */
export function settle(motion: Motion, nowMs: number): Motion {
  const endMs = Math.min(motion.endMs, nowMs + QUICK_MS);
  return { ...motion, from: percentAt(motion, nowMs), startMs: nowMs, endMs, secondsRemaining: null };
}

/** Percent, from 0 to 100. */
export function percentAt({ from, to, startMs, endMs }: Motion, nowMs: number): number {
  if (nowMs >= endMs) return to;
  if (nowMs <= startMs) return from;
  // Rounding may take the sum beyond its end.
  return Math.min(to, from + (to - from) * ((nowMs - startMs) / (endMs - startMs)));
}

/** Seconds, never below 0; null while unknown. Counts down while updates come as usual, and stands still after that. */
export function secondsAt(motion: Motion, nowMs: number): number | null {
  const { to, heardMs, secondsRemaining } = motion;
  if (to === 100) return 0;
  if (secondsRemaining === null) return null;
  const countedMs = Math.max(0, Math.min(nowMs, countsUntilMs(motion)) - heardMs);
  return Math.max(0, secondsRemaining - countedMs / 1000);
}

/** Whether nothing moves from `nowMs` on, unless an update comes. */
export function isStill(motion: Motion, nowMs: number): boolean {
  const seconds = secondsAt(motion, nowMs);
  const counting = seconds !== null && seconds > 0 && nowMs < countsUntilMs(motion);
  return nowMs >= motion.endMs && !counting;
}

function usualGap(before: Motion, nowMs: number): number {
  const gapMs = Math.max(SHORTEST_GAP_MS, nowMs - before.heardMs);
  return before.gapMs === undefined ? gapMs : before.gapMs + WEIGHT * (gapMs - before.gapMs);
}

function countsUntilMs({ heardMs, gapMs = ASSUMED_GAP_MS }: Motion): number {
  return heardMs + PATIENCE * gapMs;
}
