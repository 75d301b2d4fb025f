import { readFileSync } from "node:fs";

/** Bytes of memory that these whole processes hold just now (VmRSS), garbage included. */
export function residentBytes(pids: number[]): number {
  let kilobytes = 0;
  for (const pid of pids) {
    const [, found] = /^VmRSS:\s+(\d+) kB$/m.exec(readFileSync(`/proc/${pid}/status`, "utf8")) ?? [];
    kilobytes += Number(found);
  }
  return kilobytes * 1024;
}
