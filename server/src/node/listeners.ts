import type { Connection } from "./connection.js";
import { roomsOf } from "./rooms.js";

/**
 * Who is in which room, for delivery. Socket.IO's own rooms hold the same, as ids: to look each of them up, for every
 * event, would cost as much as the checks that follow.
 */
export class Listeners {
  readonly #rooms = new Map<string, Set<Connection>>();

  /** Puts a connection into the rooms of its filters. */
  add(connection: Connection): void {
    for (const room of roomsOf(connection.filters, connection.projects)) {
      const there = this.#rooms.get(room);
      if (there) there.add(connection);
      else this.#rooms.set(room, new Set([connection]));
    }
  }

  /** Takes it out again; to be called before its filters change. */
  remove(connection: Connection): void {
    for (const room of roomsOf(connection.filters, connection.projects)) {
      const there = this.#rooms.get(room);
      there?.delete(connection);
      if (there?.size === 0) this.#rooms.delete(room);
    }
  }

  /** Those in any of these rooms, each once. */
  in(rooms: readonly string[]): Iterable<Connection> {
    const found = rooms.flatMap((room) => this.#rooms.get(room) ?? []);
    if (found.length <= 1) return found[0] ?? [];
    return new Set(found.flatMap((there) => [...there]));
  }
}
