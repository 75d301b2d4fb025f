import jwt from "jsonwebtoken";

export interface TokenRequest {
  user: string;
  projects: string[];
  expiresInS: number;
  /** These three as the nodes have them. */
  secret: string;
  audience: string;
  issuer?: string;
}

/** A token (HS256) as an app's login would sign it, for development. */
export function mintToken({ user, projects, expiresInS, secret, audience, issuer }: TokenRequest): string {
  const claims = { role: "authenticated", app_metadata: { project_ids: projects } };
  return jwt.sign(claims, secret, {
    algorithm: "HS256",
    subject: user,
    audience,
    expiresIn: expiresInS,
    ...(issuer !== undefined && { issuer }),
  });
}
