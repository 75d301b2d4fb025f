import type { IncomingMessage } from "node:http";
import { type Refusal, refusal } from "@agentwire/shared";
import type { Policy, User } from "../access/policy.js";
import type { OriginRule } from "./origin.js";
import { parseWishes, type Wishes } from "./query.js";
import { tokenOf, type VerifyToken } from "./token.js";

/** Who came in, and what for. */
export interface Admission extends Wishes {
  user: User;
  projects: ReadonlySet<string>;
  ip: string;
}

export type Verdict = { admitted: Admission } | { refused: Refusal };

export interface HandshakeRules {
  /** Why nobody can come in now; nothing when the node is open. */
  closed(): Refusal | undefined;
  origin: OriginRule;
  verify: VerifyToken;
  policy: Policy;
  maxFilterIds: number;
}

/** One verdict for both transports, in the order of the table in docs/protocol.md. */
export async function judgeHandshake(req: IncomingMessage, rules: HandshakeRules): Promise<Verdict> {
  const closed = rules.closed();
  if (closed) return { refused: closed };
  if (!rules.origin.allows(req.headers)) return { refused: refusal("ORIGIN_FORBIDDEN") };

  const query = new URL(req.url ?? "/", "http://node").searchParams;
  const token = tokenOf(query, req.headers.authorization);
  const user = token === undefined ? "UNAUTHORIZED" : await rules.verify(token);
  if (typeof user === "string") return { refused: refusal(user) };

  const wishes = parseWishes(query, rules.maxFilterIds);
  if ("code" in wishes) return { refused: wishes };

  const projects = await rules.policy.projectsOf(user);
  if (!wishes.filters.project_ids.every((id) => projects.has(id))) return { refused: refusal("FORBIDDEN") };

  return { admitted: { ...wishes, user, projects, ip: req.socket.remoteAddress ?? "" } };
}
