import { Id } from "@agentwire/shared";
import pg from "pg";
import type { Policy } from "./policy.js";

/** How long a lookup waits for a connection. */
const CONNECT_MS = 1000;
/** After this the database ends a statement by itself, which costs no connection. */
const STATEMENT_MS = 1000;
/** After this a lookup that has its connection is given up, and the connection with it. */
const LOOKUP_MS = 1200;
/** Lookups that wait for a connection; more are refused at once. */
const MAX_WAITING = 200;

/** What is set here ends with the transaction: so it does behind a pooler in transaction mode too. */
const BEGIN = `begin read only; set local statement_timeout = ${STATEMENT_MS}; set local role authenticated`;
/** Policies read the claims, older ones of Supabase the single claim. */
const SET_CLAIMS =
  "select set_config('request.jwt.claims', $1, true), set_config('request.jwt.claim.sub', $2, true)";

/** Every value as the database writes it. */
const AS_TEXT = { getTypeParser: () => (value: unknown) => value };

export interface PostgresOptions {
  url: string;
  /** One statement. The first column of each row is the id of a project; what is no id gives no right. */
  projectsQuery: string;
  /** Connections to the database at most. */
  poolSize: number;
  /** A connection that nobody used was lost; the next lookup makes another. */
  onError(error: Error): void;
}

/**
 * The right to a project is what row-level security lets the user see, as in Supabase: the projects query runs as the
 * role `authenticated`, with the claims of the token in `request.jwt.claims`. An answer or an error comes within about
 * two seconds, whatever the database does.
 *
 * @throws Error when the URL is not valid, or names a certificate that cannot be read
 */
export function openPostgresPolicy(options: PostgresOptions): Policy & { close(): Promise<void> } {
  // A URL that cannot be used stops the node at its start, and not each viewer.
  new pg.Client(options.url);
  const pool = new pg.Pool({
    connectionString: options.url,
    max: options.poolSize,
    connectionTimeoutMillis: CONNECT_MS,
    keepAlive: true,
    fallback_application_name: "agentwire",
  });
  // The query that was under way fails too, and tells its caller; without a listener the process would end.
  pool.on("connect", (client) => client.on("error", () => {}));
  pool.on("error", options.onError);

  const readProjects = async (client: pg.PoolClient, claims: string, sub: string) => {
    await client.query(BEGIN);
    await client.query(SET_CLAIMS, [claims, sub]);
    const query: pg.QueryArrayConfig & { queryMode: "extended" } = {
      text: options.projectsQuery,
      rowMode: "array",
      types: AS_TEXT,
      // It takes one statement only: `commit; select …` would read without the role.
      queryMode: "extended",
    };
    const { rows } = await client.query<unknown[]>(query);
    await client.query("commit");
    return new Set(rows.map(([id]) => id).filter((id) => Id.safeParse(id).success) as string[]);
  };

  /** By their claims. One that has begun is not here: it may have read already what was changed since. */
  const waiting = new Map<string, Promise<ReadonlySet<string>>>();

  const lookUp = async (claims: string, sub: string): Promise<ReadonlySet<string>> => {
    const client = await pool.connect().finally(() => waiting.delete(claims));
    let isLate = false;
    const deadline = setTimeout(() => {
      isLate = true;
      client.release(true); // Which fails the query under way.
    }, LOOKUP_MS);
    let isBroken = false;
    try {
      return await readProjects(client, claims, sub);
    } catch (error) {
      isBroken = await client.query("rollback").then(
        () => false,
        () => true,
      );
      throw isLate ? new Error(`the database did not answer within ${LOOKUP_MS} ms`) : error;
    } finally {
      clearTimeout(deadline);
      if (!isLate) client.release(isBroken);
    }
  };

  return {
    async projectsOf({ id, claims }) {
      const text = JSON.stringify(claims);
      const same = waiting.get(text);
      if (same) return same;
      if (waiting.size >= MAX_WAITING)
        throw new Error(`${MAX_WAITING} lookups wait for the database already`);
      const lookup = lookUp(text, id);
      waiting.set(text, lookup);
      return lookup;
    },

    /** Fails what waits, and ends when the lookups under way have. */
    close: () => pool.end(),
  };
}
