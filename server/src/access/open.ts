import { claimsPolicy } from "./claims.js";
import type { Policy } from "./policy.js";
import { openPostgresPolicy } from "./postgres.js";

export interface PolicySettings {
  DATABASE_URL?: string | undefined;
  DATABASE_PROJECTS_QUERY: string;
  DATABASE_POOL_SIZE: number;
}

/** The policy that the settings ask for: the database's, where there is one, otherwise the token's own. */
export function openPolicy(
  settings: PolicySettings,
  onError: (error: Error) => void,
): Policy & { close(): Promise<void> } {
  if (!settings.DATABASE_URL) return { ...claimsPolicy, close: async () => {} };
  return openPostgresPolicy({
    url: settings.DATABASE_URL,
    projectsQuery: settings.DATABASE_PROJECTS_QUERY,
    poolSize: settings.DATABASE_POOL_SIZE,
    onError,
  });
}
