import { randomBytes } from "node:crypto";
import { type Filters, isSequenceId, type SequenceId } from "@agentwire/shared";
import type { JoinSources, Start } from "./join.js";

/** What a client says about where it was. */
export interface Claim {
  userId: string;
  projects: ReadonlySet<string>;
  filters: Filters;
  /** From the CONNECT packet; a stock client sends both by itself. Not to be trusted. */
  pid: unknown;
  offset: unknown;
  /** From the handshake query. */
  lastSequenceId?: SequenceId | undefined;
  epoch?: string | undefined;
}

/** Where a connection begins. */
export interface Beginning {
  pid: string;
  /** The connection that had the session until now; "" for a new session. */
  holder: string;
  /** True when the client's own `pid` goes on and everything it missed follows. */
  recovered: boolean;
  filters: Filters;
  epoch: string;
  position: SequenceId;
  start: Start;
}

export interface ResumeSources extends Pick<JoinSources, "missedBy"> {
  /** The position that this user's session resumes from; nothing for a session that is unknown or somebody else's. */
  session(
    pid: string,
    userId: string,
    offset: unknown,
  ): Promise<
    | { epoch: string; position: SequenceId; filters: Filters; asked: Filters; holder: string }
    | "unknown"
    | "foreign"
  >;
  /** The history and the last event that this node has handled. */
  now(): { epoch: string; last: SequenceId };
}

const sameFilters = (a: Filters, b: Filters): boolean => JSON.stringify(a) === JSON.stringify(b);

const PID = /^[A-Za-z0-9_-]{20,64}$/;

/** Decides where a client that comes in begins: after what it has, where that can be known, or with a snapshot. */
export async function beginning(claim: Claim, sources: ResumeSources): Promise<Beginning> {
  const { userId, projects, filters, offset } = claim;
  const pid = typeof claim.pid === "string" && PID.test(claim.pid) ? claim.pid : undefined;
  const session = pid ? await sources.session(pid, userId, offset) : "unknown";
  const fresh = () => randomBytes(18).toString("base64url");

  if (typeof session === "object") {
    const known = await sources.missedBy(userId, projects, session.position, session.epoch);
    const { position, epoch } = session;
    const recovered = !known.loss;
    return {
      ...(recovered && pid ? { pid, holder: session.holder } : { pid: fresh(), holder: "" }),
      recovered,
      // A client that asks for something else than when it first came means what it asks now.
      filters: sameFilters(session.asked, filters) ? session.filters : filters,
      epoch,
      position,
      start: { name: "resume", known },
    };
  }

  // Without a session of its own a client still knows its position. Somebody else's session gives it nothing.
  const position =
    session === "foreign" ? undefined : pid && isSequenceId(offset) ? offset : claim.lastSequenceId;
  if (position !== undefined) {
    const known = await sources.missedBy(userId, projects, position, claim.epoch);
    return {
      pid: fresh(),
      holder: "",
      recovered: !known.loss,
      filters,
      epoch: claim.epoch ?? known.epoch,
      position,
      start: { name: "resume", known },
    };
  }

  const { epoch, last } = sources.now();
  return {
    pid: fresh(),
    holder: "",
    recovered: false,
    filters,
    epoch,
    position: last,
    start: { name: "first" },
  };
}
