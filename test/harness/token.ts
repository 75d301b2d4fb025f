import jwt, { type SignOptions } from "jsonwebtoken";
import { secrets } from "./secrets.js";

export const JWT_SECRET = "a-secret-of-the-tests-0123456789abcdef";
export const SERVICE_KEY = "a-service-key-of-the-tests";

/** A token as the app's own login would sign it. */
export function token(
  user: string,
  projects: string[],
  { secret = JWT_SECRET, claims = {}, ...options }: SignOptions & { secret?: string; claims?: object } = {},
): string {
  const payload = { sub: user, role: "authenticated", app_metadata: { project_ids: projects }, ...claims };
  const signed = jwt.sign(payload, secret, { audience: "authenticated", expiresIn: "1h", ...options });
  secrets.addToken(signed);
  return signed;
}
