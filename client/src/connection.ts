import type { Refusal, SequenceId, Subscription } from "@agentwire/shared";
import type { ViewerEnvelope } from "./events.js";
import type { Failure } from "./failure.js";
import { handshakeQuery, type ResumePoint, type TokenSource } from "./handshake.js";
import { createLink, type Link } from "./link.js";
import { partingWord } from "./parting.js";
import { nextStep } from "./retry.js";
import { type ConnectionState, stateAfter } from "./state.js";
import type { AskForFilters } from "./subscription.js";

export interface ConnectionOptions {
  /** The nodes, in the order in which they are asked. */
  urls: readonly string[];
  token: TokenSource;
  /** Asked at each attempt. */
  filters(): Subscription;
  resumePoint(): ResumePoint | undefined;
  /** Events of one node at a time, as they arrive: repeats are not removed here. */
  onEvent(envelope: ViewerEnvelope, offset: SequenceId | undefined): void;
  onState(state: ConnectionState): void;
}

export interface Connection {
  readonly state: ConnectionState;
  readonly subscribe: AskForFilters;
  close(): void;
}

/** What is being done to get a link; while one is live, to get the one that takes its place. */
type Effort =
  | { name: "none" }
  | { name: "asking"; link: Link }
  | { name: "pausing"; timer: ReturnType<typeof setTimeout> };

/** Now, and not at the attempt that would meet it. */
function checkUrls(urls: readonly string[]): void {
  if (urls.length === 0) throw new TypeError("urls must name at least one node");
  for (const url of urls) new URL(url);
}

/**
 * Stays with a node as long as it answers, with the same session, and goes to the next one when it does not. A node
 * that drains is left before it closes: the next connection is made first, then the old one is given up.
 *
 * @throws TypeError when `urls` is empty, or one is no URL
 */
export function createConnection(options: ConnectionOptions): Connection {
  const { urls, token } = options;
  checkUrls(urls);
  let node = 0;
  /** Nodes asked since one was ready. */
  let attempts = 0;
  let current: Link | undefined;
  let effort: Effort = { name: "none" };
  let said: Refusal | undefined;
  let state: ConnectionState = { name: "connecting", attempt: 1, url: nodeUrl() };

  function nodeUrl(): string {
    return urls[node % urls.length] as string;
  }

  function show(next: ConnectionState): void {
    if (next === state) return;
    state = next;
    options.onState(next);
  }

  async function ask(link: Link): Promise<void> {
    const mine: Effort = { name: "asking", link };
    effort = mine;
    attempts += 1;
    // An effort to replace a link that still serves is not worth a word.
    if (!current) show({ name: "connecting", attempt: attempts, url: link.url });
    let query: Record<string, string>;
    try {
      const fresh = await (typeof token === "function" ? token() : token);
      query = handshakeQuery(fresh, options.filters(), options.resumePoint());
    } catch (error) {
      if (effort === mine) retry({ because: `there is no token: ${String(error)}` }, link);
      return;
    }
    if (effort === mine) link.open(query);
  }

  function pauseThenAsk(used: Link, afterMs: number): void {
    const timer = setTimeout(() => void ask(linkToNode(used)), afterMs);
    effort = { name: "pausing", timer };
  }

  /** The same link again, which resumes its session, unless another node is next or there is nothing to resume. */
  function linkToNode(used: Link): Link {
    if (used !== current && used.url === nodeUrl() && options.resumePoint()) return used;
    if (used !== current) used.close();
    return createLink(nodeUrl(), { ready, event, failed, lost });
  }

  function retry(failure: Failure, used: Link): void {
    const tokenRenewable = typeof token === "function";
    const step = nextStep(failure, { attempts, tokenRenewable, otherNodes: urls.length > 1 });
    if (step.name === "try_again") {
      pauseThenAsk(used, step.afterMs);
      if (!current) show({ name: "waiting", retryInMs: step.afterMs, because: step.because });
    } else if (current) {
      effort = { name: "none" };
      used.close();
    } else {
      finish({ name: "closed", reason: step.reason, code: step.code });
    }
  }

  function ready(link: Link): void {
    current?.close();
    current = link;
    effort = { name: "none" };
    attempts = 0;
  }

  function event(envelope: ViewerEnvelope, offset: SequenceId | undefined): void {
    if (!current) return;
    said = partingWord(said, envelope);
    show(stateAfter(state, envelope, current.url));
    if (envelope.event_type === "SERVER_DRAINING") leave(envelope.payload.reconnect_in_ms);
    options.onEvent(envelope, offset);
  }

  function leave(inMs: number): void {
    if (!current || effort.name !== "none") return;
    node += 1;
    pauseThenAsk(current, inMs);
  }

  function failed(failure: Failure, link: Link): void {
    node += 1;
    retry(failure, link);
  }

  function lost(end: "cut" | "closed_by_server", link: Link): void {
    current = undefined;
    if (effort.name === "asking") {
      link.close();
      show({ name: "connecting", attempt: attempts, url: effort.link.url });
      return;
    }
    if (effort.name === "pausing") clearTimeout(effort.timer);
    if (end === "cut") retry({ because: "the connection was cut" }, link);
    else if (said) retry({ because: said.message, refusal: said }, link);
    else finish({ name: "closed", reason: "the server closed the connection for good" });
  }

  function finish(last: ConnectionState): void {
    if (state.name === "closed") return;
    if (effort.name === "pausing") clearTimeout(effort.timer);
    if (effort.name === "asking") effort.link.close();
    effort = { name: "none" };
    current?.close();
    current = undefined;
    show(last);
  }

  void ask(createLink(nodeUrl(), { ready, event, failed, lost }));

  return {
    get state() {
      return state;
    },
    subscribe: async (filters) => current?.subscribe(filters) ?? "not_connected",
    close: () => finish({ name: "closed", reason: "closed by the application" }),
  };
}
