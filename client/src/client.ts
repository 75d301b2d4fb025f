import type { Subscription } from "@agentwire/shared";
import { createConnection } from "./connection.js";
import type { ViewerEvent } from "./events.js";
import { createHandlers, type Handler } from "./handlers.js";
import type { TokenSource } from "./handshake.js";
import { createListeners, type Unsubscribe } from "./listeners.js";
import { createProgressStore, type ProgressStore } from "./progress.js";
import { createSequence } from "./sequence.js";
import type { ConnectionState } from "./state.js";
import { type AgentStore, createStore } from "./store.js";
import { createFilterIntent, type Subscribed } from "./subscription.js";

export interface ClientOptions {
  /** The nodes, or one address before all of them: `["https://a.example", "https://b.example"]`. */
  urls: readonly string[];
  token: TokenSource;
  /** What to hear; without it, everything the user may see. */
  filters?: Subscription;
}

export interface AgentwireClient {
  /** Durable events come once each, however often they were sent. A gap that nobody can fill comes as a REPLAY_END with
   * `complete: false`, and the state after it as a SNAPSHOT. */
  on<E extends ViewerEvent>(type: E, handler: Handler<E>): Unsubscribe;
  off<E extends ViewerEvent>(type: E, handler: Handler<E>): void;
  readonly state: ConnectionState;
  onState(listener: (state: ConnectionState) => void): Unsubscribe;
  readonly agents: AgentStore;
  /** The tasks that are under way. */
  readonly progress: ProgressStore;
  /** Durable events handed to the application, and repeats that were not. */
  readonly counts: { readonly delivered: number; readonly repeats: number };
  /**
   * Replaces the filters, now and for every connection to come.
   * @throws SubscriptionRefused when the server does not accept them; those before stay in force
   * @throws Error when a later call took its place, or the connection is over
   */
  subscribe(filters: Subscription): Promise<Subscribed>;
  /** Ends the connection for good. */
  close(): void;
}

/**
 * Connects at once. Handlers added before the next turn of the event loop miss nothing.
 * @throws TypeError when `urls` is empty, or one is no URL
 */
export function createClient({ urls, token, filters = {} }: ClientOptions): AgentwireClient {
  const sequence = createSequence();
  const agents = createStore();
  const progress = createProgressStore(agents.get);
  const handlers = createHandlers();
  const states = createListeners<ConnectionState>();
  const counts = { delivered: 0, repeats: 0 };

  const connection = createConnection({
    urls,
    token,
    filters: () => intent.confirmed,
    resumePoint: () => sequence.resumePoint(),
    onEvent(envelope, offset) {
      const verdict = sequence.accept(envelope, offset);
      if (verdict === "repeat") {
        counts.repeats += 1;
        return;
      }
      if (verdict === "restart") {
        agents.restart();
        progress.restart();
      }
      if (envelope.sequence_id !== undefined) counts.delivered += 1;
      agents.apply(envelope);
      progress.apply(envelope);
      if (envelope.event_type === "READY") intent.connected(envelope.payload.filters);
      handlers.deliver(envelope);
    },
    onState(state) {
      if (state.name === "closed") intent.over(state.reason);
      states.call(state);
    },
  });
  const intent = createFilterIntent(filters, (wanted) => connection.subscribe(wanted));

  return {
    on: handlers.on,
    off: handlers.off,
    get state() {
      return connection.state;
    },
    onState: states.add,
    agents,
    progress,
    get counts() {
      return { ...counts };
    },
    subscribe: intent.subscribe,
    close: connection.close,
  };
}
