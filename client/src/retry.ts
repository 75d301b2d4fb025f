import type { Code } from "@agentwire/shared";
import type { Failure } from "./failure.js";

const MIN_DELAY_MS = 200;
const MAX_DELAY_MS = 5000;

/** Refusals that only this node's state explains: with another node to ask, its `Retry-After` does not matter. */
const OF_ONE_NODE: ReadonlySet<Code> = new Set(["DRAINING", "UNAVAILABLE"]);

export type NextStep =
  | { name: "try_again"; afterMs: number; because: string }
  | { name: "give_up"; reason: string; code: Code };

/**
 * What to do after a failure.
 * @param attempts how many came to nothing since the connection was last there
 * @param tokenRenewable the application gave a function that can make another token
 * @param otherNodes there is another node to ask
 */
export function nextStep(
  failure: Failure,
  context: { attempts: number; tokenRenewable: boolean; otherNodes: boolean },
): NextStep {
  const { because, refusal, retryAfterMs = 0 } = failure;
  const hopeless = refusal?.retry === "never" || (refusal?.retry === "new_token" && !context.tokenRenewable);
  if (refusal && hopeless) return { name: "give_up", reason: because, code: refusal.code };

  const wished = refusal && OF_ONE_NODE.has(refusal.code) && context.otherNodes ? 0 : retryAfterMs;
  return { name: "try_again", afterMs: Math.max(wished, backoffMs(context.attempts)), because };
}

/**
 * Between 200 ms and 5 s; the range doubles with each attempt. Drawn from the whole range, not from around its end:
 * the viewers of a killed node all start to count in the same instant and must not come back in the same one.
 */
export function backoffMs(attempts: number, random: () => number = Math.random): number {
  const ceiling = Math.min(MAX_DELAY_MS, MIN_DELAY_MS * 2 ** (attempts + 1));
  return Math.round(MIN_DELAY_MS + random() * (ceiling - MIN_DELAY_MS));
}
