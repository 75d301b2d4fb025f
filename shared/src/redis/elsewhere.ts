import { isElsewhere } from "./pulse.js";

/** A connection that is given up needs about half of it to close; each further time would add a listener to it. */
const ONCE_MS = 250;

/**
 * For ioredis' `reconnectOnError`: behind a fixed address the next connection leads to the new primary, and one that was
 * demoted cuts none.
 *
 * @param onLeaving told why
 */
export function leaveElsewhere(onLeaving: (error: Error) => void = () => {}): (error: Error) => boolean {
  let last = Number.NEGATIVE_INFINITY;
  return (error) => {
    if (!isElsewhere(error) || performance.now() - last < ONCE_MS) return false;
    last = performance.now();
    onLeaving(error);
    return true;
  };
}
