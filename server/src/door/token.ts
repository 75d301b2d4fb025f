import { createSecretKey, type KeyObject } from "node:crypto";
import jwt from "jsonwebtoken";
import type { User } from "../access/policy.js";

const MAX_USER_ID = 256;
// biome-ignore lint/suspicious/noControlCharactersInRegex: the user id becomes part of Redis keys and log lines
const CONTROL = /[\u0000-\u001f\u007f]/;

/** Roles of Supabase's own keys: an app's public key, and its service's. */
const NOT_USERS = new Set(["anon", "service_role"]);

export interface TokenRules {
  secret: string | undefined;
  audience: string;
  issuer?: string | undefined;
}

/** Verifies tokens. A KeyObject, because with a plain string each verification costs sixteen times as much. */
export function createTokenVerifier({
  secret,
  audience,
  issuer,
}: TokenRules): (token: string) => Promise<User | "UNAUTHORIZED" | "UNAVAILABLE"> {
  const key: KeyObject = createSecretKey(Buffer.from(secret ?? "", "utf8"));

  /** The user, or nothing: why a token is refused is not told to whoever sent it. */
  return async (token) => {
    let claims: unknown;
    try {
      claims = jwt.verify(token, key, { algorithms: ["HS256"], audience, ...(issuer && { issuer }) });
    } catch {
      return "UNAUTHORIZED";
    }
    if (typeof claims !== "object" || claims === null) return "UNAUTHORIZED";
    const { sub, exp, role } = claims as Record<string, unknown>;
    if (typeof role === "string" && NOT_USERS.has(role)) return "UNAUTHORIZED";
    if (typeof exp !== "number" || typeof sub !== "string") return "UNAUTHORIZED";
    if (sub === "" || sub.length > MAX_USER_ID || CONTROL.test(sub)) return "UNAUTHORIZED";
    return { id: sub, claims: claims as User["claims"], expiresAt: exp * 1000 };
  };
}

/**
 * The one token of a request: from `?token=` or from `Authorization: Bearer`. None, or two that differ, is `undefined`.
 */
export function tokenOf(query: URLSearchParams, authorization: string | undefined): string | undefined {
  const given = new Set(query.getAll("token"));
  if (authorization !== undefined) given.add(/^Bearer +([^ ]+) *$/i.exec(authorization)?.[1] ?? "");
  return given.size === 1 ? [...given][0] || undefined : undefined;
}
