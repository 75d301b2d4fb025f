import type { Code, SequenceId } from "@agentwire/shared";
import type { ViewerEnvelope } from "./events.js";

/** Where the connection is. Exactly one of these at any time. */
export type ConnectionState =
  /** A node is being asked; `attempt` counts from 1 since the connection was last there. */
  | { name: "connecting"; attempt: number; url: string }
  /** Events come as they happen. `recovered`: nothing was lost since the connection before this one. */
  | { name: "live"; url: string; connectionId: string; instanceId: string; recovered: boolean }
  /** The node is sending what was missed after `from`. */
  | { name: "catching_up"; url: string; connectionId: string; instanceId: string; from: SequenceId }
  /** Nobody is asked until `retryInMs` have passed; `because` is a sentence for people. */
  | { name: "waiting"; retryInMs: number; because: string }
  /** Over, and it will not come back by itself. `code`: where a node refused; absent after `close()`. */
  | { name: "closed"; reason: string; code?: Code };

/** What an event from the node at `url` says about the connection; the same state when it says nothing. */
export function stateAfter(state: ConnectionState, envelope: ViewerEnvelope, url: string): ConnectionState {
  switch (envelope.event_type) {
    case "READY": {
      const { connection_id: connectionId, instance_id: instanceId, recovered } = envelope.payload;
      return { name: "live", url, connectionId, instanceId, recovered };
    }
    case "REPLAY_START": {
      if (state.name !== "live") return state;
      const { connectionId, instanceId } = state;
      return { name: "catching_up", url, connectionId, instanceId, from: envelope.payload.from };
    }
    case "REPLAY_END": {
      if (state.name !== "catching_up") return state;
      const { connectionId, instanceId } = state;
      return { name: "live", url, connectionId, instanceId, recovered: envelope.payload.complete };
    }
    default:
      return state;
  }
}
