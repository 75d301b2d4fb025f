import { createHash } from "node:crypto";
import type { IncomingMessage } from "node:http";
import { type Refusal, refusal } from "@agentwire/shared";
import type { OriginRule } from "./origin.js";
import { tokenOf, type VerifyToken } from "./token.js";

/** Who opened a connection of this node. */
export interface Owner {
  user: { id: string };
  tokenDigest: string;
}

export interface SessionRules {
  origin: OriginRule;
  /** Who opened the connection with this Engine.IO session id; nobody where this node has none. */
  owner(sid: string): Owner | undefined;
  verify: VerifyToken;
}

/** What tells two tokens apart without keeping either. */
export const digestOf = (token: string): string => createHash("sha256").update(token).digest("base64");

/** The session that a request belongs to. Of several `sid`, Engine.IO takes the last; an empty one is none. */
export function sessionOf(query: URLSearchParams): string | undefined {
  return query.getAll("sid").at(-1) || undefined;
}

/**
 * Judges a request of a connection that exists: it must come from whoever opened it. The token may be another one by now,
 * of the same user.
 */
export async function judgeSession(
  req: IncomingMessage,
  sid: string,
  query: URLSearchParams,
  rules: SessionRules,
): Promise<Refusal | undefined> {
  if (!rules.origin.allows(req.headers)) return refusal("ORIGIN_FORBIDDEN");
  const owner = rules.owner(sid);
  if (!owner) return refusal("BAD_REQUEST", "this node has no such session");
  const token = tokenOf(query, req.headers.authorization);
  if (token === undefined) return refusal("UNAUTHORIZED");
  if (digestOf(token) === owner.tokenDigest) return undefined;
  const user = await rules.verify(token);
  if (typeof user === "string") return refusal(user);
  return user.id === owner.user.id ? undefined : refusal("FORBIDDEN");
}
