import { setTimeout as pause } from "node:timers/promises";

const DEADLINE_MS = 30_000;

/** Waits for a condition, by its name. The deadline is there to end a failing test, never to measure. */
export async function until<T>(
  what: string,
  condition: () => T | undefined | false | Promise<T | undefined | false>,
  deadlineMs = DEADLINE_MS,
): Promise<T> {
  const end = Date.now() + deadlineMs;
  for (;;) {
    const value = await condition();
    if (value) return value;
    if (Date.now() > end) throw new Error(`waited ${deadlineMs} ms in vain for: ${what}`);
    await pause(10);
  }
}
