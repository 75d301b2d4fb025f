import { randomBytes } from "node:crypto";
import type { IncomingMessage } from "node:http";
import { type Refusal, refusal } from "@agentwire/shared";
import type { Policy, User } from "../access/policy.js";
import { networkOf } from "./address.js";
import type { OriginRule } from "./origin.js";
import { isHandshake, parseWishes, type Wishes } from "./query.js";
import { digestOf } from "./session.js";
import type { Shortage, Slots } from "./slots.js";
import { tokenOf, type VerifyToken } from "./token.js";

/** Who came in, and what for. */
export interface Admission extends Wishes {
  connectionId: string;
  user: User;
  /** Of the token that let it in: the token itself is not kept. */
  tokenDigest: string;
  projects: ReadonlySet<string>;
  ip: string;
}

export interface Refused {
  refused: Refusal;
  /** Who it was, as far as it was proven. */
  userId?: string;
  retryAfterMs?: number;
}

export type Verdict = { admitted: Admission } | Refused;

export interface HandshakeRules {
  /** Why nobody can come in now; nothing when the node is open. */
  closed(): Refusal | undefined;
  origin: OriginRule;
  /** The client's address, believed no further than our own proxies. */
  address(req: IncomingMessage): string;
  verify: VerifyToken;
  policy: Policy;
  maxFilterIds: number;
  slots: Pick<Slots, "look" | "take" | "release">;
}

/**
 * One verdict for both transports, in the order of the table in docs/protocol.md. Whoever is admitted has a place in the
 * cluster: it must be opened, or given back.
 *
 * @throws what Redis or the policy throws while it is away
 */
export async function judgeHandshake(
  req: IncomingMessage,
  query: URLSearchParams,
  upgrade: boolean,
  rules: HandshakeRules,
): Promise<Verdict> {
  const closed = rules.closed();
  if (closed) return { refused: closed };
  const ip = rules.address(req);
  const address = networkOf(ip);
  const shortage = await rules.slots.look(address);
  if (shortage?.code === "CLUSTER_FULL") return short(shortage);
  if (!rules.origin.allows(req.headers)) return { refused: refusal("ORIGIN_FORBIDDEN") };
  if (shortage) return short(shortage);

  const token = tokenOf(query, req.headers.authorization);
  const user = token === undefined ? "UNAUTHORIZED" : await rules.verify(token);
  if (typeof user === "string") return { refused: refusal(user) };
  const userId = user.id;

  if (!isHandshake(query, req.method, upgrade))
    return { refused: refusal("BAD_REQUEST", "not a handshake of Engine.IO 4"), userId };
  const wishes = parseWishes(query, rules.maxFilterIds);
  if ("code" in wishes) return { refused: wishes, userId };

  const projects = await rules.policy.projectsOf(user);
  if (!wishes.filters.project_ids.every((id) => projects.has(id)))
    return { refused: refusal("FORBIDDEN"), userId };

  const connectionId = randomBytes(15).toString("base64url");
  const none = await rules.slots.take({ connectionId, userId, address });
  if (none) return { ...short(none), userId };
  // The node may have begun to stop meanwhile, and has closed all that it will close.
  const closedMeanwhile = rules.closed();
  if (closedMeanwhile) {
    rules.slots.release(connectionId);
    return { refused: closedMeanwhile, userId };
  }
  return {
    admitted: { ...wishes, connectionId, user, tokenDigest: digestOf(token as string), projects, ip },
  };
}

function short(shortage: Shortage): Refused {
  const retryAfterMs = "retryAfterMs" in shortage ? shortage.retryAfterMs : undefined;
  return { refused: refusal(shortage.code), ...(retryAfterMs !== undefined && { retryAfterMs }) };
}
