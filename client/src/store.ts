import type { AgentStatusChanged, Filters, PayloadOf, Status } from "@agentwire/shared";
import { compareSequence, SEQUENCE_START, type SequenceId } from "@agentwire/shared/sequence";
import type { ViewerEnvelope } from "./events.js";
import { createListeners, type Unsubscribe } from "./listeners.js";

/** An agent as last heard of. A snapshot has no `message`, `progress` and `attempt`. */
export interface Agent
  extends Readonly<Pick<AgentStatusChanged, "task_id" | "message" | "progress" | "attempt">> {
  readonly agent_id: string;
  readonly project_id: string;
  readonly status: Status;
  /** The change that made it so. `0-0` when it is known only from a history that is gone. */
  readonly sequence_id: SequenceId;
  /** When that change was published, ISO 8601. */
  readonly timestamp: string;
}

/** The agents now. Fits React's `useSyncExternalStore(store.subscribe, store.getSnapshot)`. */
export interface AgentStore {
  get(agentId: string): Agent | undefined;
  /** In the order in which they were first heard of. The same array until something changes; never changed itself. */
  getSnapshot(): readonly Agent[];
  subscribe(listener: () => void): Unsubscribe;
}

/** Promise: an agent's state is that of the highest `sequence_id` heard of, in whatever order they arrived. */
export interface WritableAgentStore extends AgentStore {
  apply(envelope: ViewerEnvelope): void;
  /** A new history began: what is known stays on show, and whatever comes now is newer. */
  restart(): void;
}

export function createStore(): WritableAgentStore {
  const agents = new Map<string, Agent>();
  const listeners = createListeners<void>();
  let shown: readonly Agent[] | undefined;

  function changed(): void {
    shown = undefined;
    listeners.call();
  }

  /** False when what is known is at least as new. */
  function take(agent: Agent): boolean {
    const known = agents.get(agent.agent_id);
    if (known && compareSequence(agent.sequence_id, known.sequence_id) <= 0) return false;
    agents.set(agent.agent_id, agent);
    return true;
  }

  function keepOnly(keep: (agent: Agent) => boolean): void {
    const gone = [...agents.values()].filter((agent) => !keep(agent));
    if (gone.length === 0) return;
    for (const { agent_id } of gone) agents.delete(agent_id);
    changed();
  }

  function replace(snapshot: PayloadOf<"SNAPSHOT">): void {
    const present = new Set(snapshot.agents.map(({ agent_id }) => agent_id));
    for (const { agent_id, sequence_id } of [...agents.values()]) {
      // An agent that changed after the snapshot was read is missing from it without being gone.
      const newer = compareSequence(sequence_id, snapshot.sequence_id) > 0;
      if (!present.has(agent_id) && !newer) agents.delete(agent_id);
    }
    for (const agent of snapshot.agents) take(agent);
    changed();
  }

  return {
    get: (agentId) => agents.get(agentId),
    getSnapshot() {
      shown ??= Object.freeze([...agents.values()]);
      return shown;
    },
    subscribe: (listener) => listeners.add(listener),
    restart() {
      for (const agent of agents.values()) {
        agents.set(agent.agent_id, { ...agent, sequence_id: SEQUENCE_START });
      }
      changed();
    },
    apply(envelope) {
      switch (envelope.event_type) {
        case "AGENT_STATUS_CHANGED": {
          const { new_status: status, old_status: _, ...about } = envelope.payload;
          const { sequence_id, timestamp } = envelope;
          if (sequence_id !== undefined && take({ ...about, status, sequence_id, timestamp })) changed();
          return;
        }
        case "SNAPSHOT":
          return replace(envelope.payload);
        // Nothing more will be heard of agents outside the filters, so what is known of them grows stale unseen.
        case "FILTERS_UPDATED":
          return keepOnly((agent) => matches(envelope.payload, agent));
        case "ACCESS_REVOKED":
          return keepOnly(({ project_id }) => !envelope.payload.project_ids.includes(project_id));
      }
    },
  };
}

/** Whether filters let something of this agent pass. */
export function matches(
  { agent_ids, project_ids }: Filters,
  { agent_id, project_id }: Pick<Agent, "agent_id" | "project_id">,
): boolean {
  return (
    (agent_ids.length === 0 || agent_ids.includes(agent_id)) &&
    (project_ids.length === 0 || project_ids.includes(project_id))
  );
}
