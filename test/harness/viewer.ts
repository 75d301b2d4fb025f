import type { Envelope, EventType, PayloadOf, SequenceId } from "@agentwire/shared";
import { AGENTS_NAMESPACE, compareSequence } from "@agentwire/shared";
import { io, type ManagerOptions, type Socket } from "socket.io-client";
import { secrets, seenByOutsiders } from "./secrets.js";
import { token } from "./token.js";
import { until } from "./wait.js";

export interface ViewerOptions {
  user?: string;
  projects?: string[];
  /** Handshake query, beside the token. */
  query?: Record<string, string>;
  auth?: Record<string, unknown>;
  socket?: Partial<ManagerOptions>;
}

type Status = Envelope<"AGENT_STATUS_CHANGED"> & { sequence_id: SequenceId };

/** A browser: the stock socket.io-client, and what it received. */
export class Viewer {
  readonly socket: Socket;
  /** Everything in order of arrival. */
  readonly received: Envelope[] = [];
  /** `recovered` at each connect. */
  readonly connects: boolean[] = [];
  readonly errors: Error[] = [];
  /** What was received before the connection that it has now. */
  #before = 0;
  /** How often it noticed that its connection was lost. */
  disconnects = 0;
  /** Why, in the stock client's words. */
  readonly reasons: string[] = [];

  constructor(
    readonly url: string,
    { user = "user-1", projects = ["p1"], query = {}, auth = {}, socket = {} }: ViewerOptions,
  ) {
    this.socket = io(url + AGENTS_NAMESPACE, {
      transports: ["websocket"],
      forceNew: true,
      reconnectionDelay: 20,
      reconnectionDelayMax: 200,
      query: { token: token(user, projects), ...query },
      ...(Object.keys(auth).length > 0 && { auth }),
      ...socket,
    });
    this.socket.on("connect", () => {
      this.connects.push(Boolean(this.socket.recovered));
      this.#before = this.received.length;
      // Engine.IO's; what follows the point is the name of the node.
      secrets.add("a session id", this.socket.io.engine.id?.split(".")[0] ?? "");
      // The stock client keeps its session id to itself.
      secrets.add("a session id", (this.socket as unknown as { _pid?: string })._pid ?? "");
    });
    this.socket.on("disconnect", (reason) => {
      this.disconnects++;
      this.reasons.push(reason);
    });
    this.socket.on(
      "connect_error",
      (error: Error & { data?: unknown; context?: { responseText?: string } }) => {
        this.errors.push(error);
        seenByOutsiders(`${error.message} ${JSON.stringify(error.data)} ${error.context?.responseText}`);
      },
    );
    this.socket.onAny((name: string, envelope: Envelope) => {
      this.received.push(envelope);
      if (name === "ERROR") seenByOutsiders(JSON.stringify(envelope.payload));
    });
  }

  /** Whether the connection that it has now had its READY. */
  get ready(): boolean {
    return this.received.slice(this.#before).some(({ event_type }) => event_type === "READY");
  }

  /** Of the connection that it has now, as its READY named it. */
  get connectionId(): string {
    return this.payloads("READY").at(-1)?.connection_id ?? "";
  }

  /** Payloads of one kind of event, in order of arrival. */
  payloads<E extends EventType>(type: E): PayloadOf<E>[] {
    return this.received
      .filter(({ event_type }) => event_type === type)
      .map(({ payload }) => payload as PayloadOf<E>);
  }

  /** Every status change as it came, repeats and all. */
  get raw(): Status[] {
    return this.received.filter(({ event_type }) => event_type === "AGENT_STATUS_CHANGED") as Status[];
  }

  /** Sequence ids without repeats, in the log's order. */
  get log(): SequenceId[] {
    return [...new Set(this.raw.map(({ sequence_id }) => sequence_id))].sort(compareSequence);
  }

  /** Has its READY and all that a join sends. */
  async joined(times = 1): Promise<this> {
    await until("the viewer has joined", () => {
      const over = this.received.filter(({ event_type, payload }) =>
        event_type === "REPLAY_END"
          ? (payload as PayloadOf<"REPLAY_END">).complete
          : event_type === "SNAPSHOT",
      );
      return over.length >= times;
    });
    return this;
  }

  async sees(what: string, condition: (viewer: this) => unknown): Promise<void> {
    try {
      await until(what, () => Boolean(condition(this)));
    } catch (error) {
      const last = this.received
        .slice(-8)
        .map(({ event_type, payload }) => `${event_type} ${JSON.stringify(payload)}`);
      throw new Error(
        `${(error as Error).message}\n  ${this.received.length} events, at last:\n  ${last.join("\n  ")}`,
      );
    }
  }

  /** Waits until every one of these is there. */
  async has(ids: SequenceId[]): Promise<void> {
    await this.sees(`${ids.length} events`, () => {
      const log = new Set(this.log);
      return ids.every((id) => log.has(id));
    });
  }

  subscribe(
    filters: unknown,
  ): Promise<{ ok: boolean; sequence_id?: string; error?: { code: string; message: string } }> {
    return this.socket.timeout(10_000).emitWithAck("SUBSCRIBE", filters);
  }
}
