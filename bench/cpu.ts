import { readFileSync } from "node:fs";

/** Linux counts in these, whatever the kernel's own tick is. */
const TICKS_PER_SECOND = 100;

/** Processor time of these whole processes so far, in µs: all threads, user and system. */
export function cpuMicroseconds(pids: number[]): number {
  let ticks = 0;
  for (const pid of pids) {
    const stat = readFileSync(`/proc/${pid}/stat`, "utf8");
    // The name, in parentheses, may hold spaces; utime and stime are the 12th and 13th fields after it.
    const fields = stat.slice(stat.lastIndexOf(")") + 2).split(" ");
    ticks += Number(fields[11]) + Number(fields[12]);
  }
  return (ticks / TICKS_PER_SECOND) * 1e6;
}
