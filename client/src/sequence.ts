import type { PayloadOf } from "@agentwire/shared";
import { compareSequence, type SequenceId } from "@agentwire/shared/sequence";
import type { ViewerEnvelope } from "./events.js";
import type { ResumePoint } from "./handshake.js";

/** Overtaking events remembered at most. More wait only where a server never moves the position on. */
const MAX_AHEAD = 4096;

/**
 * - `deliver`: new to the application
 * - `repeat`: delivered before
 * - `restart`: deliver, and sequence ids known until now no longer say what is older: they are of another history
 */
export type Verdict = "deliver" | "repeat" | "restart";

/**
 * The order of what arrived. Promises: each durable event gets `deliver` once, whatever connections and replays bring
 * it again; `resumePoint` never names a place before which something is missing.
 */
export interface Sequence {
  /** Judges an event as it arrives. `offset`: its second argument, where it came with one. */
  accept(envelope: ViewerEnvelope, offset?: SequenceId): Verdict;
  /** Where a next connection goes on; `undefined` when it has to begin with a snapshot. */
  resumePoint(): ResumePoint | undefined;
  /** Up to here everything has arrived. */
  readonly position: SequenceId | undefined;
  /** How many events above the position are remembered. */
  readonly ahead: number;
}

export function createSequence(): Sequence {
  let epoch: string | undefined;
  let position: SequenceId | undefined;
  let snapshot: "due" | "received" = "due";
  const ahead = new Set<SequenceId>();

  function advance(to: SequenceId): void {
    if (position !== undefined && compareSequence(to, position) <= 0) return;
    position = to;
    for (const id of ahead) if (compareSequence(id, to) <= 0) ahead.delete(id);
  }

  function restart(at: SequenceId): Verdict {
    position = at;
    ahead.clear();
    snapshot = "due";
    return "restart";
  }

  function remember(id: SequenceId): void {
    ahead.add(id);
    // Better a repeat than a page that grows for ever.
    for (const oldest of ahead) {
      if (ahead.size <= MAX_AHEAD) break;
      ahead.delete(oldest);
    }
  }

  function logged(id: SequenceId, offset: SequenceId | undefined): Verdict {
    const repeat = ahead.has(id) || (position !== undefined && compareSequence(id, position) <= 0);
    // Without an offset it overtook others: it arrived, but what is before it did not.
    if (offset !== undefined) advance(offset);
    else if (!repeat) remember(id);
    return repeat ? "repeat" : "deliver";
  }

  function ready({ epoch: named, sequence_id, recovered }: PayloadOf<"READY">): Verdict {
    const known = epoch ?? named;
    epoch = named;
    if (known !== named) return restart(sequence_id);
    // It goes on behind our position. Recovered, it is known there that nothing lies between; taken for a first
    // connection, what lies between is only in the snapshot.
    const behind = position === undefined || compareSequence(sequence_id, position) > 0;
    if (behind && !recovered) snapshot = "due";
    advance(sequence_id);
    return "deliver";
  }

  function replayEnd({ to, complete, reason }: PayloadOf<"REPLAY_END">): Verdict {
    if (!complete) snapshot = "due";
    if (reason === "history_lost") {
      // The new history's name comes with the next READY. To claim the old one until then would lose that one, too.
      epoch = undefined;
      // The clock of a Redis that lost its data may be behind what it said before.
      if (position !== undefined && compareSequence(to, position) < 0) return restart(to);
    }
    advance(to);
    return "deliver";
  }

  return {
    accept(envelope, offset) {
      switch (envelope.event_type) {
        case "READY":
          return ready(envelope.payload);
        case "REPLAY_END":
          return replayEnd(envelope.payload);
        case "SNAPSHOT":
          snapshot = "received";
          return "deliver";
        default:
          return envelope.sequence_id === undefined ? "deliver" : logged(envelope.sequence_id, offset);
      }
    },
    resumePoint() {
      // Cut between READY and SNAPSHOT: resuming there would leave the application without a state for good.
      if (position === undefined || snapshot === "due") return undefined;
      return { last_sequence_id: position, ...(epoch !== undefined && { epoch }) };
    },
    get position() {
      return position;
    },
    get ahead() {
      return ahead.size;
    },
  };
}
