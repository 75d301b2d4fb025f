import type { Filters, SequenceId } from "@agentwire/shared";
import type { RedisKeys } from "@agentwire/shared/redis";
import type { Redis } from "ioredis";
import { Audience } from "./audience.js";
import { ensureEpoch, renewEpoch } from "./epoch.js";
import { Log } from "./log.js";
import { type ConnectionRecord, Registry } from "./registry.js";
import { Replay, type ReplayLimits } from "./replay.js";
import { resumePosition, type Session, type SessionProgress, Sessions } from "./sessions.js";
import { writeSettings } from "./settings.js";
import { Snapshots } from "./snapshots.js";

export interface StoreOptions {
  /** The client for single commands: it answers within a second or fails, and so does everything here. */
  redis: Redis;
  keys: RedisKeys;
  instanceId: string;
  limits: ReplayLimits;
}

/** Where a client's session goes on, and which connection has it. */
export interface ResumableSession {
  epoch: string;
  position: SequenceId;
  filters: Filters;
  asked: Filters;
  holder: string;
}

/** Everything the node keeps in Redis, under the names by which the node asks for it. */
export function openStore({ redis, keys, instanceId, limits }: StoreOptions) {
  const log = new Log(redis, keys);
  const replay = new Replay(redis, keys, log, limits);
  const snapshots = new Snapshots(redis, keys);
  const sessions = new Sessions(redis, keys, limits.windowMs);
  const audience = new Audience(redis, keys, limits.windowMs);
  const registry = new Registry(redis, keys, instanceId);

  return {
    // What a join reads.
    missedBy: (user: string, projects: ReadonlySet<string>, after: SequenceId, epoch?: string) =>
      replay.missedBy(user, projects, after, epoch),
    read: (ids: SequenceId[]) => log.read(ids),
    agentsOfProjects: (ids: string[]) => snapshots.ofProjects(ids),
    agents: (ids: string[]) => snapshots.ofAgents(ids),

    // What a resume reads.
    async session(
      pid: string,
      userId: string,
      offset: unknown,
    ): Promise<ResumableSession | "unknown" | "foreign"> {
      const session = await sessions.load(pid);
      if (!session) return "unknown";
      const { user_id, epoch, filters, asked, connection_id } = session;
      return user_id === userId
        ? { epoch, filters, asked, position: resumePosition(session, offset), holder: connection_id }
        : "foreign";
    },
    claimSession: (pid: string, session: Session, from: string) => sessions.claim(pid, session, from),

    // Who is here.
    keepAudience: (user: string, projects: ReadonlySet<string>) => audience.keep(user, projects),
    keepConnections: (records: ConnectionRecord[]) => registry.keep(records),
    removeConnections: (gone: Pick<ConnectionRecord, "connection_id" | "user_id">[]) => registry.remove(gone),
    keepSession: (pid: string, session: Session) => sessions.keep(pid, session),
    noteProgress: (progress: SessionProgress[], over: boolean) => sessions.noteProgress(progress, over),
    announce: registry.announce.bind(registry),
    leave: () => registry.leave(),

    // The history.
    head: () => log.head(),
    ensureEpoch: () => ensureEpoch(redis, keys),
    renewEpoch: (former: string) => renewEpoch(redis, keys, former),
    writeSettings: () => writeSettings(redis, keys, limits),
  };
}

export type Store = ReturnType<typeof openStore>;
