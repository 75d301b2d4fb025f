import type {
  AGENTS_NAMESPACE as AgentsNamespace,
  ClientToServerEvents,
  SequenceId,
  ServerToClientEvents,
} from "@agentwire/shared";
import { io, type Socket } from "socket.io-client";
import type { ViewerEnvelope } from "./events.js";
import { type Failure, readFailure } from "./failure.js";
import type { AskForFilters } from "./subscription.js";

/** Spelled again because the browser loads nothing but `sequence` from shared; the type keeps the two the same. */
const AGENTS_NAMESPACE: typeof AgentsNamespace = "/ws/agents";

/** A node that does not answer the handshake within this is asked no longer… */
const OPEN_MS = 5000;
/** …but one that has answered may be busy with a thousand others that lost the same node. */
const READY_MS = 20_000;
const ACKNOWLEDGE_MS = 10_000;

export interface LinkListener {
  /** The node has accepted the connection. Called before `event` is called with READY. */
  ready(link: Link): void;
  event(envelope: ViewerEnvelope, offset: SequenceId | undefined): void;
  /** `open` came to nothing. It may be called again. */
  failed(failure: Failure, link: Link): void;
  /** It had been ready and is no longer. `open` may be called again, and then resumes the same session. */
  lost(end: "cut" | "closed_by_server", link: Link): void;
}

/** One stock socket to one node. It never reconnects by itself, and calls nothing after `close`. */
export interface Link {
  readonly url: string;
  open(query: Record<string, string>): void;
  /** Answers within 10 s, whatever happens. */
  readonly subscribe: AskForFilters;
  close(): void;
}

export function createLink(url: string, listener: LinkListener): Link {
  let phase: "idle" | "opening" | "ready" | "closed" = "idle";
  let deadline: ReturnType<typeof setTimeout> | undefined;

  const socket: Socket<ServerToClientEvents, ClientToServerEvents> = io(new URL(AGENTS_NAMESPACE, url).href, {
    path: "/socket.io/",
    // WebSocket first: it is one TCP connection, so it needs no sticky sessions in front of the nodes. Polling after
    // it, on failure: it passes proxies that do not let WebSockets through, and only it shows why a node refused.
    transports: ["websocket", "polling"],
    tryAllTransports: true,
    // The stock reconnection cannot wait for an asynchronous token and knows one address; connection.ts does it.
    reconnection: false,
    forceNew: true,
    autoConnect: false,
    timeout: OPEN_MS,
  });

  function end(next: "idle" | "closed"): void {
    phase = next;
    clearTimeout(deadline);
    socket.disconnect();
  }

  function fail(failure: Failure): void {
    if (phase !== "opening") return;
    end("idle");
    listener.failed(failure, link);
  }

  socket.on("connect_error", (error) => fail(readFailure(error)));
  socket.on("disconnect", (reason) => {
    if (phase === "opening") return fail({ because: "the node closed the connection before it was ready" });
    if (phase !== "ready") return;
    phase = "idle";
    listener.lost(reason === "io server disconnect" ? "closed_by_server" : "cut", link);
  });
  socket.onAny((_type: string, envelope: ViewerEnvelope, offset?: SequenceId) => {
    if (phase === "opening" && envelope.event_type === "READY") {
      phase = "ready";
      clearTimeout(deadline);
      listener.ready(link);
    }
    if (phase === "ready") listener.event(envelope, offset);
  });

  const link: Link = {
    url,
    open(query) {
      phase = "opening";
      deadline = setTimeout(() => fail({ because: "the node did not get ready in time" }), READY_MS);
      socket.io.opts.query = query;
      socket.connect();
    },
    async subscribe(filters) {
      // Otherwise the stock client would keep it and send it after filters that were asked for later.
      if (phase !== "ready") return "not_connected";
      try {
        return await socket.timeout(ACKNOWLEDGE_MS).emitWithAck("SUBSCRIBE", filters);
      } catch {
        // The stock client rejects for two reasons, told apart by nothing but words.
        return phase === "ready" ? "timed_out" : "not_connected";
      }
    },
    close: () => end("closed"),
  };
  return link;
}
