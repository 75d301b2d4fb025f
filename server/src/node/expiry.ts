import { refusal } from "@agentwire/shared";
import type { Visit } from "./visit.js";

/** So long before its end a token is said to run out. */
const WARNING_MS = 60_000;
const SWEEP_MS = 1000;

/** Ends connections whose token has run out: the client comes back with a new one, and resumes. */
export class Expiry {
  readonly #warned = new WeakSet<Visit>();
  #timer: NodeJS.Timeout | undefined;

  constructor(private readonly visits: Iterable<Visit>) {}

  start(): void {
    this.#timer = setInterval(() => this.#sweep(), SWEEP_MS);
  }

  stop(): void {
    clearInterval(this.#timer);
  }

  #sweep(): void {
    const now = Date.now();
    for (const visit of this.visits) {
      const left = visit.visitor.user.expiresAt - now;
      if (left <= 0) {
        visit.say("ERROR", refusal("UNAUTHORIZED", "the token has run out"));
        visit.end("UNAUTHORIZED");
      } else if (left <= WARNING_MS && visit.namespaces.size > 0 && !this.#warned.has(visit)) {
        this.#warned.add(visit);
        visit.say("TOKEN_EXPIRING", { expires_in_ms: left });
      }
    }
  }
}
