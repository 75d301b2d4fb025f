import type { LogFn, Logger } from "pino";

/** The same warning this often in {@link EVERY_MS}, and no oftener. */
const MOST = 3;
const EVERY_MS = 10_000;
const KINDS = 1000;

/**
 * For pino's `logMethod`: while Redis is away everything that needs it fails, for each connection and each message. A
 * warning that says the same for the same reason is said three times in ten seconds; the next one says how many were
 * left out.
 */
export function leaveOutRepeats(now: () => number = () => performance.now()) {
  const kinds = new Map<string, { since: number; said: number; left: number }>();

  return function log(this: Logger, args: Parameters<LogFn>, method: LogFn, level: number): void {
    const [about, what] = args;
    if (level !== this.levels.values.warn || typeof what !== "string") return method.apply(this, args);
    const { err } = about as { err?: unknown };
    const kind = `${what} ${err}`;
    let known = kinds.get(kind);
    if (!known || now() - known.since >= EVERY_MS) {
      const left = known?.left ?? 0;
      if (kinds.size >= KINDS) kinds.clear();
      known = { since: now(), said: 0, left: 0 };
      kinds.set(kind, known);
      if (left > 0) args[0] = { ...(about as object), left_out: left };
    }
    if (known.said >= MOST) known.left++;
    else {
      known.said++;
      method.apply(this, args);
    }
  };
}
