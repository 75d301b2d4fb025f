import type { Acknowledgement, Code, Filters, SequenceId, Subscription } from "@agentwire/shared";

/** Asks the node once. Without an answer it is unknown whether the filters are in force. */
export type AskForFilters = (
  filters: Subscription,
) => Promise<Acknowledgement<Subscribed> | "timed_out" | "not_connected">;

/** Later events than `sequence_id` pass these filters, earlier ones passed those before. */
export interface Subscribed {
  filters: Filters;
  sequence_id: SequenceId;
}

/** The server refused filters; those before stay in force. */
export class SubscriptionRefused extends Error {
  override readonly name = "SubscriptionRefused";
  constructor(
    readonly code: Code,
    message: string,
  ) {
    super(message);
  }
}

/** The filters the application wants, kept apart from those the server confirmed. */
export interface FilterIntent {
  /** What a new connection asks for at once: a wish that was never confirmed could get the connection refused. */
  readonly confirmed: Subscription;
  /**
   * Resolves once the server has confirmed, however many connections that takes.
   * @throws SubscriptionRefused
   * @throws Error when a later call took its place, or the connection is over
   */
  subscribe(filters: Subscription): Promise<Subscribed>;
  /** A connection is ready with these filters in force: asks again where they are not the wanted ones. */
  connected(inForce: Filters): void;
  /** The connection is over: who still waits is told so. */
  over(reason: string): void;
}

interface Wish {
  filters: Subscription;
  resolve(subscribed: Subscribed): void;
  reject(error: Error): void;
}

export function createFilterIntent(initial: Subscription, ask: AskForFilters): FilterIntent {
  let confirmed = initial;
  let wish: Wish | undefined;
  let end: string | undefined;

  async function pursue(mine: Wish): Promise<void> {
    const answer = await ask(mine.filters);
    if (answer === "not_connected") return; // `connected` asks again
    if (answer === "timed_out") {
      if (wish === mine) await pursue(mine);
      return;
    }
    // Also for a wish that another has replaced: that one may be refused, and then these stay in force.
    if (answer.ok) confirmed = mine.filters;
    if (wish !== mine) return;
    wish = undefined;
    if (answer.ok) mine.resolve({ filters: answer.filters, sequence_id: answer.sequence_id });
    else mine.reject(new SubscriptionRefused(answer.error.code, answer.error.message));
  }

  function want(next: Wish): void {
    wish?.reject(new Error("other filters were asked for before these were confirmed"));
    wish = next;
    void pursue(next);
  }

  return {
    get confirmed() {
      return confirmed;
    },
    async subscribe(filters) {
      if (end !== undefined) throw new Error(end);
      return new Promise((resolve, reject) => want({ filters, resolve, reject }));
    },
    connected(inForce) {
      if (wish) {
        void pursue(wish);
      } else if (!sameFilters(inForce, confirmed)) {
        const settle = () => {};
        // Refused after it was confirmed once: what is in force is the truth, and READY has told the application.
        const accept = () => {
          confirmed = inForce;
        };
        want({ filters: confirmed, resolve: settle, reject: accept });
      }
    },
    over(reason) {
      end = reason;
      wish?.reject(new Error(reason));
      wish = undefined;
    },
  };
}

function sameFilters(a: Subscription, b: Subscription): boolean {
  const names = ["agent_ids", "project_ids", "event_types"] as const;
  return names.every((name) => {
    const [one, other] = [new Set(a[name]), new Set(b[name])];
    return one.size === other.size && [...one].every((value) => other.has(value));
  });
}
