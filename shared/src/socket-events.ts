import type { Refusal } from "./codes.js";
import type { Envelope } from "./envelope.js";
import type { EventType, events } from "./events.js";
import type { Filters } from "./filters.js";
import type { SequenceId } from "./sequence.js";

type In<N extends string> = {
  [E in EventType]: (typeof events)[E]["namespace"] extends infer S
    ? "agents" | "terminal" | "both" extends S
      ? E
      : S extends N
        ? E
        : never
    : never;
}[EventType];

/** An acknowledgement: what was asked for, or why not. */
export type Acknowledgement<T> = ({ ok: true } & T) | { ok: false; error: Pick<Refusal, "code" | "message"> };

/**
 * Server to client, for Socket.IO's type parameters. `log` events carry their `sequence_id` again as a last string
 * argument, which a stock client keeps as its offset; no other event ends in a string.
 */
export type ServerToClientEvents = {
  [E in In<"agents" | "both">]: (envelope: Envelope<E>, offset?: SequenceId) => void;
};

/** What `SUBSCRIBE` takes; it replaces the filters. */
export type Subscription = Partial<Filters>;

/** Client to server. `sequence_id` in the answer: later events pass the new filters, earlier ones passed the old. */
export interface ClientToServerEvents {
  SUBSCRIBE(
    filters: Subscription,
    ack: (answer: Acknowledgement<{ filters: Filters; sequence_id: SequenceId }>) => void,
  ): void;
}

/** Terminal namespace, client to server. */
export interface TerminalClientEvents {
  PAUSE_STREAM(ack: (answer: Acknowledgement<object>) => void): void;
  RESUME_STREAM(ack: (answer: Acknowledgement<object>) => void): void;
}
