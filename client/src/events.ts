import type { Envelope, ServerToClientEvents } from "@agentwire/shared";

/** What the agents namespace says to a viewer: status, progress, and everything about the connection itself. */
export type ViewerEvent = keyof ServerToClientEvents;

/** Any of its envelopes; narrow by `event_type`. */
export type ViewerEnvelope = { [E in ViewerEvent]: Envelope<E> }[ViewerEvent];
