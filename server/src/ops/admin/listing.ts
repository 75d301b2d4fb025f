import { AGENTS_NAMESPACE } from "@agentwire/shared";
import type { Logger } from "pino";
import type { Namespace, Socket } from "socket.io";

/** From each node. The page counts all of them elsewhere; what it lists it keeps in its memory. */
const SOCKETS_PER_NODE = 500;
const EVERY_MS = 5000;
/** What one node asks another for. */
const ASK = "sockets";

/** What operators may know of a viewer. */
export interface ViewerInfo {
  ip: string;
  user: { id: string };
  encoding: string;
}

export interface ListingOptions {
  instanceId: string;
  viewers: Namespace;
  viewer(connection: Socket["conn"]): ViewerInfo | undefined;
  logger: Logger;
}

/** In the page's shape. Nothing of the request itself: a token may stand anywhere in it, and the `sid` is one too. */
function describe(socket: Socket, { instanceId, viewer }: ListingOptions) {
  const { ip, user, encoding } = viewer(socket.conn) ?? {};
  const { issued, time, secure, xdomain, address } = socket.handshake;
  return {
    id: socket.id,
    clientId: socket.id,
    transport: socket.conn.transport.name,
    nsp: AGENTS_NAMESPACE,
    data: { instance_id: instanceId, user_id: user?.id, encoding },
    handshake: { address: ip ?? address, issued, time, secure, xdomain, headers: {}, query: {}, url: "" },
    rooms: [...socket.rooms],
  };
}

function* first<T>(most: number, all: Iterable<T>): Generator<T> {
  let count = 0;
  for (const one of all) {
    if (count++ === most) return;
    yield one;
  }
}

/**
 * Tells the operators who are here which sockets the nodes have: at once, and again every 5 s, but not to one that has
 * not taken the former list yet.
 */
export function listSockets(operators: Namespace, options: ListingOptions): void {
  const own = () =>
    [...first(SOCKETS_PER_NODE, options.viewers.sockets.values())].map((one) => describe(one, options));

  const ask = async () => {
    // Of a node that does not answer within 5 s nothing is known; the others' answers come with the error.
    const others = await operators
      .serverSideEmitWithAck(ASK)
      .catch((error: Error & { responses?: unknown[] }) => {
        options.logger.debug({ err: error.message }, "not every node listed its sockets");
        return error.responses ?? [];
      });
    return [...own(), ...others.flat()];
  };
  // One question for all who ask meanwhile, however long the answers take.
  let asked: ReturnType<typeof ask> | undefined;
  const gather = () => {
    asked ??= ask().finally(() => {
      asked = undefined;
    });
    return asked;
  };
  const tell = (to: { emit(event: string, sockets: unknown[]): unknown }) =>
    gather().then(
      (sockets) => void to.emit("all_sockets", sockets),
      (error) => options.logger.warn({ err: String(error) }, "sockets could not be listed"),
    );

  operators.on(ASK, (answer: unknown) => {
    if (typeof answer === "function") answer(own());
  });
  operators.on("connection", (socket) => void tell(socket));
  setInterval(() => {
    if (operators.sockets.size > 0) void tell(operators.local.volatile);
  }, EVERY_MS).unref();
}
