import type { Envelope } from "@agentwire/shared";
import type { ViewerEnvelope, ViewerEvent } from "./events.js";
import { createListeners, type Listeners, type Unsubscribe } from "./listeners.js";

export type Handler<E extends ViewerEvent> = (envelope: Envelope<E>) => void;

/** The application's handlers by event type. */
export interface Handlers {
  on<E extends ViewerEvent>(type: E, handler: Handler<E>): Unsubscribe;
  off<E extends ViewerEvent>(type: E, handler: Handler<E>): void;
  deliver(envelope: ViewerEnvelope): void;
}

export function createHandlers(): Handlers {
  const byType = new Map<ViewerEvent, unknown>();

  function listeners<E extends ViewerEvent>(type: E): Listeners<Envelope<E>> {
    // The map cannot say that key and value belong together; this function is its only reader and writer.
    const known = byType.get(type) as Listeners<Envelope<E>> | undefined;
    const found = known ?? createListeners<Envelope<E>>();
    if (!known) byType.set(type, found);
    return found;
  }

  return {
    on: (type, handler) => listeners(type).add(handler),
    off: (type, handler) => listeners(type).remove(handler),
    deliver: (envelope) => listeners<ViewerEvent>(envelope.event_type).call(envelope),
  };
}
