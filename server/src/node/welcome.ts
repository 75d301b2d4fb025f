import { SEQUENCE_START } from "@agentwire/shared";
import type { SessionRecord } from "@agentwire/shared/redis";
import { type Beginning, beginning, type ResumeSources } from "./resume.js";
import type { Visit } from "./visit.js";

export interface Welcome {
  visit: Visit;
  begins: Beginning;
}

export interface WelcomeStore extends ResumeSources {
  /** By user, the projects whose events reach the user's index. */
  keepAudience(audience: Map<string, ReadonlySet<string>>): Promise<void>;
  /** Takes a session over from the connection that had it; false when another one did so meanwhile. */
  claimSession(pid: string, session: SessionRecord, from: string): Promise<boolean>;
}

/**
 * Decides where a connection begins and writes down what it needs to be resumed, all before CONNECT is answered: a
 * client that knows its pid can come back, whatever happens to this node.
 *
 * @param open whether the client is still there; one that has gone must not take its session along
 * @throws what Redis answers while it is away; Error when the client has gone, or came back elsewhere
 */
export async function welcome(
  visit: Visit,
  auth: { pid?: unknown; offset?: unknown },
  open: () => boolean,
  store: WelcomeStore,
): Promise<Welcome> {
  const { projects, visitor } = visit;
  const { user, filters, lastSequenceId, epoch, resumes } = visitor;
  // First the audience, so that from here on each event reaches the user's index; then what it holds already.
  await store.keepAudience(new Map([[user.id, projects]]));
  const { pid, offset } = resumes ? auth : {};
  const claim = { userId: user.id, projects, filters, pid, offset, lastSequenceId, epoch };
  const begins = await beginning(claim, store);
  if (!resumes) return { visit, begins };

  const { position } = begins;
  const session = {
    user_id: user.id,
    epoch: begins.epoch,
    connection_id: visit.id,
    began: position,
    last_sent: SEQUENCE_START,
    as_of: position,
    filters: begins.filters,
    asked: filters,
  };
  if (!open()) throw new Error("the client has gone");
  if (!(await store.claimSession(begins.pid, session, begins.holder)))
    throw new Error("resumed elsewhere meanwhile");
  return { visit, begins };
}
