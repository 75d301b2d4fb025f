import { type Pulse, type Transport, Visit, type Visitor } from "./visit.js";

/** A connection of Engine.IO's, as it comes. */
export interface Opened extends Transport {
  readonly id: string;
  once(event: "close", listener: (reason: string) => void): unknown;
}

/** Everybody who is connected to this node. */
export class Visits implements Iterable<Visit> {
  readonly #bySession = new Map<string, Visit>();
  readonly #byConnection = new WeakMap<object, Visit>();

  /** Lasts until the connection closes; `onClosed` is told why it did, in Engine.IO's words. */
  open(
    connection: Opened,
    visitor: Visitor,
    pulse: Pulse,
    onClosed: (visit: Visit, reason: string) => void,
  ): Visit {
    const visit = new Visit(visitor, connection, pulse);
    this.#bySession.set(connection.id, visit);
    this.#byConnection.set(connection, visit);
    connection.once("close", (reason) => {
      this.#bySession.delete(connection.id);
      onClosed(visit, reason);
    });
    return visit;
  }

  /** Nothing for a connection that did not come through the door. */
  of(connection: object): Visit | undefined {
    return this.#byConnection.get(connection);
  }

  /** By Engine.IO's session id. */
  withSession(sid: string): Visit | undefined {
    return this.#bySession.get(sid);
  }

  /** How each is connected. */
  *lines(): Generator<{ transport: string; encoding: string }> {
    for (const { connection, visitor } of this)
      yield { transport: connection.transport.name, encoding: visitor.encoding };
  }

  [Symbol.iterator](): Iterator<Visit> {
    return this.#bySession.values();
  }
}
