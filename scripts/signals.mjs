const LOOK_MS = 500;

/**
 * Calls `stop` when we are asked to end: by a signal, or because npm, whose shell may keep a signal for itself, is gone.
 * @param {() => void} stop
 */
export function onStop(stop) {
  for (const signal of /** @type {const} */ (["SIGINT", "SIGTERM", "SIGHUP"])) process.on(signal, stop);
  if (!process.env.npm_lifecycle_event) return;
  const parent = process.ppid;
  setInterval(() => process.ppid !== parent && stop(), LOOK_MS).unref();
}
