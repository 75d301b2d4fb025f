import { jwksUrlOf, KeyServer } from "./key-server.js";
import { createTokenVerifier, type VerifyToken } from "./token.js";

export interface TokenSettings {
  JWT_SECRET?: string | undefined;
  SUPABASE_URL?: string | undefined;
  JWT_JWKS_URL?: string | undefined;
  JWT_AUDIENCE: string;
  JWT_ISSUER?: string | undefined;
}

/** Checks tokens as the settings ask for: by secret, by the keys of a key server, or by either. */
export function openVerifier(settings: TokenSettings, onError: (error: unknown) => void): VerifyToken {
  const jwksUrl = jwksUrlOf(settings);
  return createTokenVerifier({
    secret: settings.JWT_SECRET,
    keys: jwksUrl ? new KeyServer(jwksUrl, onError) : undefined,
    audience: settings.JWT_AUDIENCE,
    issuer: settings.JWT_ISSUER,
  });
}
