import { type EventType, events, type PayloadOf, type Priority } from "./events.js";
import type { SequenceId } from "./sequence.js";

/** The one argument of every event. Never changed after it is stamped. */
export interface Envelope<E extends EventType = EventType> {
  event_type: E;
  event_id: string;
  /** Durable events only: the place in the log. */
  sequence_id?: SequenceId;
  /** ISO 8601, of the clock that published it. */
  timestamp: string;
  priority: Priority;
  payload: PayloadOf<E>;
}

/** Stamps a payload. Where it came from outside, it was parsed by the map's schema before. */
export function stamp<E extends EventType>(
  event_type: E,
  event_id: string,
  payload: PayloadOf<E>,
): Envelope<E> {
  const priority = (events[event_type].priority as (p: PayloadOf<E>) => Priority)(payload);
  return { event_type, event_id, timestamp: new Date().toISOString(), priority, payload };
}
