/** Microseconds of the machine's monotonic clock: the same in every process, and nobody sets it. */
export function microseconds(): number {
  return Number(process.hrtime.bigint()) / 1000;
}
