import { refusal } from "@agentwire/shared";
import type { Visit } from "./visit.js";

/** In ms; `warning`: so long before its end a token is said to run out. */
const TIMES = { warning: 60_000, sweep: 1000 };

/** Ends connections whose token has run out: the client comes back with a new one, and resumes. */
export class Expiry {
  readonly #warned = new WeakSet<Visit>();
  #timer: NodeJS.Timeout | undefined;

  constructor(
    private readonly visits: Iterable<Visit>,
    private readonly times = TIMES,
  ) {}

  start(): void {
    this.#timer = setInterval(() => this.#sweep(), this.times.sweep);
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
      } else if (left <= this.times.warning && visit.namespaces.size > 0 && !this.#warned.has(visit)) {
        this.#warned.add(visit);
        visit.say("TOKEN_EXPIRING", { expires_in_ms: left });
      }
    }
  }
}
