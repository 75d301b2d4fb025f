import { AGENTS_NAMESPACE, type Envelope, type PayloadOf, type SequenceId } from "@agentwire/shared";
import { WebSocket } from "ws";

/** One of a crowd: with whose token, for which project, where it connects, and where it comes back, in turn. */
export interface MemberOptions {
  token: string;
  project: string;
  url: string;
  back: string[];
}

/** Those of the stock client. */
const BACKOFF = { first: 1000, most: 5000, jitter: 0.5 };
const OPEN_MS = 20_000;

/**
 * A viewer with as little work in it as will do, so that thousands of them leave the processor to the nodes: a bare
 * WebSocket that comes back as the stock client does, with its pid, its offset, its backoff and the next address.
 */
export class Member {
  readonly seen = new Set<SequenceId>();
  /** Events that came again on the connection on which they had come. */
  doubled = 0;
  connects = 0;
  /** Whether the session was the one that it had, at the last connect. */
  recovered = false;
  /** `Date.now()` when it was complete again, by what the server said. */
  completeAt = 0;
  /** What a replay lacked. */
  readonly losses: string[] = [];
  /** Why it was not let in, and how often. */
  readonly refusals: Record<string, number> = {};
  #pid: string | undefined;
  #offset: SequenceId | undefined;
  #attempts = 0;
  #returns = 0;
  #thisTime = new Set<SequenceId>();

  constructor(private readonly options: MemberOptions) {
    this.#open(options.url);
  }

  get joined(): boolean {
    return this.completeAt > 0;
  }

  #open(url: string): void {
    const query = new URLSearchParams({ EIO: "4", transport: "websocket", token: this.options.token });
    const ws = new WebSocket(`${url.replace("http", "ws")}/socket.io/?${query}`, {
      perMessageDeflate: false,
      handshakeTimeout: OPEN_MS,
    });
    ws.on("unexpected-response", (_request, { statusCode = 0 }) => {
      this.#refused(String(statusCode));
      ws.terminate();
    });
    ws.on("error", (error: NodeJS.ErrnoException) => {
      if (error.code) this.#refused(error.code);
    });
    ws.on("close", () => this.#comeBack());
    ws.on("message", (data: Buffer) => this.#take(data.toString(), ws));
  }

  #refused(why: string): void {
    this.refusals[why] = (this.refusals[why] ?? 0) + 1;
  }

  #comeBack(): void {
    this.completeAt = 0;
    const { back } = this.options;
    const url = back[this.#returns++ % back.length] as string;
    const grown = BACKOFF.first * 2 ** this.#attempts++;
    const delay = grown * (1 + BACKOFF.jitter * (2 * Math.random() - 1));
    setTimeout(() => this.#open(url), Math.min(delay, BACKOFF.most));
  }

  #take(text: string, ws: WebSocket): void {
    if (text === "2") return ws.send("3");
    if (text.startsWith("0")) {
      const resumes = this.#pid && { pid: this.#pid, offset: this.#offset };
      return ws.send(`40${AGENTS_NAMESPACE},${JSON.stringify(resumes ?? {})}`);
    }
    const [kind, said] = [text.slice(0, 2), text.slice(3 + AGENTS_NAMESPACE.length)];
    if (kind === "40") this.#connected(JSON.parse(said));
    else if (kind === "44") this.#refused(said);
    else if (kind === "42") this.#hear(...(JSON.parse(said) as [string, Envelope, SequenceId?]));
  }

  #connected({ pid }: { pid: string }): void {
    this.connects++;
    this.#attempts = 0;
    this.recovered = pid === this.#pid;
    this.#pid = pid;
    this.#thisTime = new Set();
  }

  #hear(name: string, { sequence_id, payload }: Envelope, offset?: SequenceId): void {
    if (offset !== undefined) this.#offset = offset;
    if (name === "AGENT_STATUS_CHANGED" && sequence_id) {
      this.seen.add(sequence_id);
      if (this.#thisTime.has(sequence_id)) this.doubled++;
      this.#thisTime.add(sequence_id);
    } else if (name === "REPLAY_END") {
      const { complete, reason = "" } = payload as PayloadOf<"REPLAY_END">;
      if (complete) this.completeAt = Date.now();
      else this.losses.push(reason);
    } else if (name === "SNAPSHOT") this.completeAt = Date.now();
  }
}
