/**
 * A `sequence_id` is a Redis stream id, `"<ms>-<n>"`. It grows strictly over the whole cluster. Compare with
 * {@link compareSequence}: as strings, "9-0" would come after "10-0".
 */
export type SequenceId = string;

/** Before every event. */
export const SEQUENCE_START: SequenceId = "0-0";

const PATTERN = /^(0|[1-9]\d{0,15})-(0|[1-9]\d{0,15})$/;

export function isSequenceId(value: unknown): value is SequenceId {
  return typeof value === "string" && PATTERN.test(value);
}

/** Negative when `a` comes before `b`, 0 when they are the same, positive when `a` comes after `b`. */
export function compareSequence(a: SequenceId, b: SequenceId): number {
  if (a === b) return 0;
  const dashA = a.indexOf("-");
  const dashB = b.indexOf("-");
  // Digits in the same places: the texts compare as the numbers do, and need not be made into numbers.
  if (dashA === dashB && a.length === b.length) return a < b ? -1 : 1;
  return (
    Number(a.slice(0, dashA)) - Number(b.slice(0, dashB)) ||
    Number(a.slice(dashA + 1)) - Number(b.slice(dashB + 1))
  );
}

/** The later of the two. */
export function laterSequence(a: SequenceId, b: SequenceId): SequenceId {
  return compareSequence(a, b) >= 0 ? a : b;
}

/** The earlier of the two. */
export function earlierSequence(a: SequenceId, b: SequenceId): SequenceId {
  return compareSequence(a, b) <= 0 ? a : b;
}

/** The Redis clock, in milliseconds, at which the event was appended. */
export function sequenceTime(id: SequenceId): number {
  return Number(id.slice(0, id.indexOf("-")));
}
