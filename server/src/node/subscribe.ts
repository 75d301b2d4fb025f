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
  /** Leaves the rooms of the old filters and joins those of the new ones; returns the place from which on they count. */
  refilter(to: Filters): SequenceId;
  /** Writes the new filters where a resume finds them. */
  save(): Promise<void>;
}

type Answer = Acknowledgement<{ filters: Filters; sequence_id: SequenceId }>;

/**
 * Takes one SUBSCRIBE: its filters replace the old ones at once, or nothing changes and the answer says why. The answer
 * comes when they are saved: from then on they also survive this node. Without an acknowledgement a refusal comes as
 * ERROR.
 */
export async function takeSubscription(args: unknown[], subscriber: Subscriber): Promise<void> {
  const { connection } = subscriber;
  const ack = args.at(-1);
  const wanted = args[0] === ack && typeof ack === "function" ? undefined : args[0];
  const answer = (value: Answer): void => {
    if (typeof ack === "function") ack(value);
    else if (!value.ok) connection.exit.say("ERROR", refusal(value.error.code, value.error.message));
  };

  const verdict = judgeSubscription(wanted, connection.projects, subscriber.maxFilterIds);
  if ("code" in verdict)
    return answer({ ok: false, error: { code: verdict.code, message: verdict.message } });

  const sequence_id = subscriber.refilter(verdict);
  await subscriber.save();
  answer({ ok: true, filters: verdict, sequence_id });
  connection.exit.say("FILTERS_UPDATED", verdict);
}

/** A project that the user may not see and one that does not exist get the same answer. */
function judgeSubscription(
  wanted: unknown,
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
