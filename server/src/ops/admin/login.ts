import { type Code, refusal } from "@agentwire/shared";
import bcrypt from "bcryptjs";
import type { Logger } from "pino";
import type { Namespace, Socket } from "socket.io";

/** Node has one thread for viewers too: a step more doubles the time that a login takes from them. 8: about 20 ms. */
const COST = 8;
const BCRYPT_HASH = /^\$2[aby]\$\d\d\$[./A-Za-z0-9]{53}$/;
const LONGEST_SESSION_ID = 64;
const LONGEST_CREDENTIAL = 256;
/** These very words make the page show its form again. */
const INVALID = "invalid credentials";

/** `setting` is a password, or a bcrypt hash of one. */
export async function passwordHash(setting: string): Promise<string> {
  return BCRYPT_HASH.test(setting) ? setting : bcrypt.hash(setting, COST);
}

/** What all nodes know together. Everything rejects when it cannot be known. */
export interface Logins {
  sessionExists(id: string): Promise<boolean>;
  saveSession(id: string): Promise<void>;
  /** Takes one of the attempts that may be made now; false when there are none left. */
  attempt(address: string): Promise<boolean>;
}

export interface LoginRules {
  /** Whether it came through the operators' listener. */
  isOperators(connection: Socket["conn"]): boolean;
  /** Where a request comes from, behind proxies too. */
  address(request: Socket["request"]): string;
  logins: Logins;
  logger: Logger;
}

type Credentials = { sessionId: string } | { username: string; password: string };

const isText = (value: unknown, longest: number): value is string =>
  typeof value === "string" && value !== "" && value.length <= longest;

/** What a client may log in with; nothing where a part of it is of another type. The page sends null for no session. */
export function parseCredentials(auth: Record<string, unknown>): Credentials[] {
  const { sessionId = null, username, password } = auth;
  const found: Credentials[] = [];
  if (isText(sessionId, LONGEST_SESSION_ID)) found.push({ sessionId });
  else if (sessionId !== null && sessionId !== "") return [];
  if (isText(username, LONGEST_CREDENTIAL) && isText(password, LONGEST_CREDENTIAL))
    found.push({ username, password });
  return found;
}

function connectError(code: Code, message?: string): Error {
  const data = refusal(code, message);
  return Object.assign(new Error(data.message), { data });
}

/** @returns what `instrument()` is to judge */
async function admit({ handshake }: Socket, ip: string, logins: Logins): Promise<Credentials | Code> {
  for (const credentials of parseCredentials(handshake.auth)) {
    const known = "sessionId" in credentials && (await logins.sessionExists(credentials.sessionId));
    if (known) return credentials;
    if (!(await logins.attempt(ip))) return "RATE_LIMITED";
    if ("password" in credentials) return credentials;
  }
  return "UNAUTHORIZED";
}

/**
 * Stands before the login of `instrument()`, which ends the process when a password is not a string, asks Redis without
 * hearing its errors, and lets anybody try as often as they like. Must be the namespace's first middleware.
 */
export function guardLogin(namespace: Namespace, rules: LoginRules): void {
  const { logger } = rules;
  const deciding = new WeakSet<Socket["conn"]>();

  namespace.use(async (socket, next) => {
    const { conn } = socket;
    // To everybody else this namespace does not exist.
    if (!rules.isOperators(conn)) return next(connectError("NAMESPACE_UNKNOWN"));
    if (deciding.has(conn)) {
      // Socket.IO itself notices a second CONNECT only when the first one has been let in.
      conn.close();
      return next(connectError("BAD_REQUEST"));
    }
    deciding.add(conn);
    const ip = rules.address(socket.request);
    const verdict = await admit(socket, ip, rules.logins).catch((error): Code => {
      logger.warn({ err: String(error) }, "login of an operator could not be judged");
      return "UNAVAILABLE";
    });
    deciding.delete(conn);
    if (typeof verdict !== "string") {
      // Nothing else reaches what comes after: not even the name, without a password beside it.
      socket.handshake.auth = verdict;
      return next();
    }
    logger.warn({ ip, code: verdict }, "operator refused");
    next(verdict === "UNAUTHORIZED" ? connectError(verdict, INVALID) : connectError(verdict));
  });
}
