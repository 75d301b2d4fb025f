import { createSecretKey, type KeyObject } from "node:crypto";
import jwt from "jsonwebtoken";
import type { User } from "../access/policy.js";
import type { PublicKey } from "./key-server.js";

/**
 * Characters of a token. 900 projects named by UUID take 48,000, and what is longer costs more to verify than whoever
 * sends it pays.
 */
const MAX_TOKEN = 49_152;
/** How far ahead `exp` may be. Later ones are no times in seconds, or tokens for ever. */
const MAX_AHEAD_MS = 3653 * 24 * 3_600_000;
const MAX_USER_ID = 256;
/** The user id becomes part of Redis keys and log lines; lone surrogates would become one and the same character there. */
const NOT_IN_USER_ID = /[\p{Cc}\p{Cs}]/u;

/** Roles of Supabase's own keys: an app's public key, and its service's. */
const NOT_USERS = new Set(["anon", "service_role"]);

export interface TokenRules {
  /** Verifies HS256. */
  secret?: string | undefined;
  /** Verify RS256 and ES256. */
  keys?: { find(kid: string): Promise<PublicKey[] | "UNAVAILABLE"> } | undefined;
  audience: string;
  issuer?: string | undefined;
}

/**
 * The user of a token. `UNAUTHORIZED`: not a good token; why is not told to whoever sent it. `UNAVAILABLE`: its key is
 * not known, and the key server does not answer. Never rejects.
 */
export type VerifyToken = (token: string) => Promise<User | "UNAUTHORIZED" | "UNAVAILABLE">;

export function createTokenVerifier({ secret, keys, audience, issuer }: TokenRules): VerifyToken {
  // With a plain string each verification costs sixteen times as much.
  const secretKey = secret ? createSecretKey(Buffer.from(secret, "utf8")) : undefined;

  /** The header names the key, and that is all it does: one of ours, and only with that key's own algorithm. */
  const keyFor = async ({ alg, kid }: Header): Promise<KeyObject | "UNAUTHORIZED" | "UNAVAILABLE"> => {
    if (alg === "HS256") return secretKey ?? "UNAUTHORIZED";
    if ((alg !== "RS256" && alg !== "ES256") || typeof kid !== "string" || !kid) return "UNAUTHORIZED";
    const found = (await keys?.find(kid)) ?? [];
    if (found === "UNAVAILABLE") return found;
    return found.find(({ algorithm }) => algorithm === alg)?.key ?? "UNAUTHORIZED";
  };

  return async (token) => {
    if (token.length > MAX_TOKEN) return "UNAUTHORIZED";
    const header = headerOf(token);
    if (!header) return "UNAUTHORIZED";
    const key = await keyFor(header);
    if (typeof key === "string") return key;
    try {
      const claims = jwt.verify(token, key, {
        algorithms: [header.alg as jwt.Algorithm],
        ...(issuer && { issuer }),
      });
      return userOf(claims, audience) ?? "UNAUTHORIZED";
    } catch {
      return "UNAUTHORIZED";
    }
  };
}

type Header = { alg?: unknown; kid?: unknown };

function headerOf(token: string): Header | undefined {
  try {
    const header: unknown = jwt.decode(token, { complete: true })?.header;
    if (typeof header !== "object" || header === null) return undefined;
    // Extensions that must be understood (RFC 7515, 4.1.11), and we know none. jsonwebtoken overlooks them.
    if ("crit" in header) return undefined;
    return header;
  } catch {
    return undefined;
  }
}

/** What jsonwebtoken does not look at, or not as strictly. It has seen that `exp` and `nbf` are numbers, and in time. */
function userOf(claims: unknown, audience: string): User | undefined {
  if (typeof claims !== "object" || claims === null) return undefined;
  const { sub, exp, aud, role } = claims as Record<string, unknown>;
  if (aud !== audience) return undefined;
  if (typeof exp !== "number" || exp * 1000 > Date.now() + MAX_AHEAD_MS) return undefined;
  if (role !== undefined && (typeof role !== "string" || NOT_USERS.has(role))) return undefined;
  if (typeof sub !== "string" || sub === "") return undefined;
  if (sub.length > MAX_USER_ID || NOT_IN_USER_ID.test(sub)) return undefined;
  return { id: sub, claims: claims as User["claims"], expiresAt: exp * 1000 };
}

/**
 * The one token of a request: from `?token=` or from `Authorization: Bearer`. None, or two that differ, is `undefined`.
 */
export function tokenOf(query: URLSearchParams, authorization: string | undefined): string | undefined {
  const given = new Set(query.getAll("token"));
  if (authorization !== undefined) given.add(/^Bearer +([^ ]+) *$/i.exec(authorization)?.[1] ?? "");
  return given.size === 1 ? [...given][0] || undefined : undefined;
}
