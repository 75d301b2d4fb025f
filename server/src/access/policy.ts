/** A person with a valid token, and the token's claims. */
export interface User {
  id: string;
  claims: Readonly<Record<string, unknown>>;
  /** When the token runs out, in ms since 1970. */
  expiresAt: number;
}

/** Who may see what. An answer that cannot be had is an error, never "everything" and never "nothing". */
export interface Policy {
  projectsOf(user: User): Promise<ReadonlySet<string>>;
}
