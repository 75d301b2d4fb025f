/** A person with a valid token, and the token's claims. */
export interface User {
  id: string;
  claims: Readonly<Record<string, unknown>>;
}

/** Who may see what. An answer that cannot be had is an error, never "everything" and never "nothing". */
export interface Policy {
  projectsOf(user: User): Promise<ReadonlySet<string>>;
}
