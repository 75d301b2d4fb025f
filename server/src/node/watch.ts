import type { SequenceId } from "@agentwire/shared";
import type { Hub } from "./hub.js";

/** What a look at the log needs of Redis. */
export interface HistorySources {
  /** Gives the history another name where another server has taken its server's place. */
  recogniseServer(): Promise<boolean>;
  head(): Promise<{ head: SequenceId; epoch: string | null }>;
  /** Names the history where it has no name. */
  ensureEpoch(): Promise<string>;
  /** Gives it another name, because events of it are gone. */
  renewEpoch(former: string): Promise<string>;
}

/**
 * Looks at Redis and tells the hub when this node missed something that no entry told: a reader that is deaf, a
 * history that was lost, or one that lost its end.
 *
 * @returns whether the history is another one than before
 * @throws what Redis answers while it is away
 */
export async function look(hub: Hub, sources: HistorySources): Promise<boolean> {
  const { continuity } = hub;
  const before = { epoch: continuity.epoch, last: continuity.last };
  await sources.recogniseServer();
  const found = await sources.head();
  const epoch = found.epoch ?? (await sources.ensureEpoch());
  // An entry told meanwhile what this look would tell.
  if (continuity.epoch !== before.epoch) return false;

  const finding =
    continuity.lostEnd && epoch === continuity.epoch
      ? "rolled_back"
      : continuity.judgeHead({ head: found.head, epoch }, before.last);
  if (finding === "level") return false;
  if (finding === "rolled_back") {
    hub.level("other_history", found.head, await sources.renewEpoch(epoch));
    return true;
  }
  hub.level(finding, found.head, epoch);
  return finding === "other_history";
}
