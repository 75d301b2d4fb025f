import {
  type Acknowledgement,
  type Filters,
  filtersSchema,
  type Refusal,
  refusal,
  type SequenceId,
} from "@agentwire/shared";
import type { Connection } from "./connection.js";

/** What SUBSCRIBE needs of the socket it came from. */
export interface Subscriber {
  connection: Connection;
  maxFilterIds: number;
  /** Counts this one, unless there were too many in the last second. Times are of a monotonic clock (ms). */
  limit: { take(now: number): boolean };
  /** Leaves the rooms of the old filters and joins those of the new ones; returns the place from which on they count. */
  refilter(to: Filters): SequenceId;
  /** Writes the new filters where a resume finds them. */
  save(): Promise<void>;
}

type Answer = Acknowledgement<{ filters: Filters; sequence_id: SequenceId }>;

/**
 * Takes one SUBSCRIBE: its filters replace the old ones at once, or nothing changes and the answer says why. The answer
 * comes when they are saved: from then on they also survive this node. Without an acknowledgement a refusal comes as
 * ERROR. What is refused counts against the limit, too: it was judged.
 */
export async function takeSubscription(
  wanted: object,
  ack: ((answer: Answer) => void) | undefined,
  subscriber: Subscriber,
): Promise<void> {
  const { connection } = subscriber;
  const verdict = subscriber.limit.take(performance.now())
    ? judgeSubscription(wanted, connection.projects, subscriber.maxFilterIds)
    : refusal("RATE_LIMITED", "too many SUBSCRIBEs in one second");
  if ("code" in verdict) {
    const { code, message } = verdict;
    if (ack) ack({ ok: false, error: { code, message } });
    else connection.exit.say("ERROR", verdict);
    return;
  }

  const sequence_id = subscriber.refilter(verdict);
  await subscriber.save();
  ack?.({ ok: true, filters: verdict, sequence_id });
  connection.exit.say("FILTERS_UPDATED", verdict);
}

/** A project that the user may not see and one that does not exist get the same answer. */
function judgeSubscription(
  wanted: object,
  projects: ReadonlySet<string>,
  maxFilterIds: number,
): Filters | Refusal {
  const parsed = filtersSchema(maxFilterIds).safeParse(wanted);
  if (!parsed.success) {
    const problems = parsed.error.issues.map(
      (issue) => `${issue.path.join(".") || "filters"}: ${issue.message}`,
    );
    return refusal("INVALID_FILTER", [...new Set(problems)].join("; "));
  }
  return parsed.data.project_ids.every((id) => projects.has(id)) ? parsed.data : refusal("FORBIDDEN");
}
