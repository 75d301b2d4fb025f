import type { IncomingHttpHeaders, OutgoingHttpHeaders } from "node:http";

/** Decides which pages may connect. Browsers always send `Origin` across origins; other programs need not. */
export function createOriginRule(allowed: string[]) {
  const any = allowed.includes("*");
  const listed = new Set(allowed);

  return {
    allows({ origin, host }: IncomingHttpHeaders): boolean {
      if (origin === undefined || any || listed.has(origin)) return true;
      return URL.canParse(origin) && new URL(origin).host === host;
    },
    /** So that a page on an allowed origin can read the answer, refusals too. */
    headers({ origin }: IncomingHttpHeaders): OutgoingHttpHeaders {
      if (origin === undefined) return {};
      return {
        "Access-Control-Allow-Origin": origin,
        "Access-Control-Allow-Credentials": "true",
        "Access-Control-Expose-Headers": "Retry-After",
        Vary: "Origin",
      };
    },
  };
}

export type OriginRule = ReturnType<typeof createOriginRule>;
