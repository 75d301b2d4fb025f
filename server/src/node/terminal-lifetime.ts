import type { Namespace } from "socket.io";

/** What Socket.IO keeps private of a namespace: each client that `_add` takes leaves once, by `_remove`. */
interface Counted {
  name: string;
  adapter: { close(): unknown };
  _add(...args: unknown[]): Promise<void>;
  _remove(socket: object): void;
  server: { _nsps: Map<string, unknown> };
}

interface Parent {
  children: Set<unknown>;
  createChild(name: string): Namespace;
}

/**
 * Frees the namespaces that come from `parent` when the last client has left, or was refused. Socket.IO's own option
 * for that does not know of clients that are still being judged, and loses them.
 */
export function freeWhenEmpty(parent: Namespace): { readonly size: number } {
  const { children } = parent as unknown as Parent;
  const hidden = parent as unknown as Parent;
  const create = hidden.createChild.bind(parent);
  hidden.createChild = (name) => {
    const namespace = create(name);
    const counted = namespace as unknown as Counted;
    const add = counted._add.bind(namespace);
    const remove = counted._remove.bind(namespace);
    let clients = 0;
    counted._add = (...args) => {
      clients++;
      return add(...args);
    };
    counted._remove = (socket) => {
      remove(socket);
      if (--clients > 0) return;
      counted.adapter.close();
      counted.server._nsps.delete(name);
      children.delete(namespace);
    };
    return namespace;
  };
  return children;
}
