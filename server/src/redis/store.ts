import type { SequenceId } from "@agentwire/shared";
import type { ConnectionRecord, RedisKeys, SessionProgress, SessionRecord } from "@agentwire/shared/redis";
import type { Redis } from "ioredis";
import { Audience } from "./audience.js";
import { ensureEpoch, recogniseServer, renewEpoch } from "./epoch.js";
import { Log } from "./log.js";
import { Registry } from "./registry.js";
import { PAGE, Replay, type ReplayLimits } from "./replay.js";
import { ReplayIndex } from "./replay-index.js";
import { lookBack } from "./replay-look.js";
import { resumePosition, Sessions } from "./sessions.js";
import { writeSettings } from "./settings.js";
import { Snapshots } from "./snapshots.js";

export interface StoreOptions {
  /** The client for single commands: it answers within a second or fails, and so does everything here. */
  redis: Redis;
  keys: RedisKeys;
  instanceId: string;
  limits: ReplayLimits;
}

/** Everything the node keeps in Redis, under the names by which the node asks for it. */
export function openStore({ redis, keys, instanceId, limits }: StoreOptions) {
  const log = new Log(redis, keys);
  const index = new ReplayIndex(redis, keys, limits.maxMessages);
  const lookOptions = { redis, keys, count: PAGE, maxMessages: limits.maxMessages };
  const replay = new Replay(log, index, (...about) => lookBack(lookOptions, ...about), limits);
  const snapshots = new Snapshots(redis, keys);
  const sessions = new Sessions(redis, keys, limits.windowMs);
  const audience = new Audience(redis, keys, limits.windowMs);
  const registry = new Registry(redis, keys, instanceId);

  return {
    // What a join reads.
    missedBy: (user: string, projects: ReadonlySet<string>, after: SequenceId, epoch?: string) =>
      replay.missedBy(user, projects, after, epoch),
    missedNext: replay.missedNext.bind(replay),
    read: (ids: SequenceId[]) => log.read(ids),
    agentsOfProjects: (ids: string[]) => snapshots.ofProjects(ids),
    agents: (ids: string[]) => snapshots.ofAgents(ids),

    // What a resume reads.
    async session(pid: string, userId: string, offset: unknown) {
      const session = await sessions.load(pid);
      if (!session) return "unknown" as const;
      const { user_id, epoch, filters, asked, connection_id: holder } = session;
      if (user_id !== userId) return "foreign" as const;
      return { epoch, filters, asked, position: resumePosition(session, offset), holder };
    },
    claimSession: (pid: string, session: SessionRecord, from: string) => sessions.claim(pid, session, from),

    // Who is here.
    keepAudience: audience.keep.bind(audience),
    keepConnections: (records: ConnectionRecord[]) => registry.keep(records),
    removeConnections: registry.remove.bind(registry),
    keepSession: (pid: string, session: SessionRecord) => sessions.keep(pid, session),
    noteProgress: (progress: SessionProgress[], over: boolean) => sessions.noteProgress(progress, over),
    announce: registry.announce.bind(registry),
    leave: () => registry.leave(),

    // The history.
    async eventIdsSince(ms: number): Promise<string[]> {
      const ids: string[] = [];
      for await (const page of log.newestFirst(`${ms}-0`))
        ids.push(...page.map(({ envelope }) => envelope.event_id));
      return ids;
    },
    head: () => log.head(),
    recogniseServer: () => recogniseServer(redis, keys),
    ensureEpoch: () => ensureEpoch(redis, keys),
    renewEpoch: (former: string) => renewEpoch(redis, keys, former),
    writeSettings: () => writeSettings(redis, keys, limits),
  };
}

export type Store = ReturnType<typeof openStore>;
