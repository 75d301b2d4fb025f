import { io } from "socket.io-client";
import type { Cluster } from "./cluster.js";
import { token } from "./token.js";
import type { Viewer, ViewerOptions } from "./viewer.js";

/** One of several customers on one cluster. Each of its ids begins with its name, so that any of them is known anywhere. */
export interface Tenant {
  name: string;
  user: string;
  projects: string[];
  agents: string[];
  tasks: string[];
}

export const tenant = (name: string): Tenant => ({
  name,
  user: `${name}-user`,
  projects: [`${name}-project-1`, `${name}-project-2`],
  agents: [`${name}-agent-1`, `${name}-agent-2`],
  tasks: [`${name}-task-1`, `${name}-task-2`],
});

const MARK = /\b(t\d)-(?:user|project|agent|task)/g;

/** What was tried, what of it showed somebody else's, and what a tenant's own came to. */
export class Matrix {
  attempts = 0;
  readonly leaks: string[] = [];
  /** By operation: how often a tenant was given its own. */
  readonly own: Record<string, number> = {};

  constructor(readonly cluster: Cluster) {}

  /** Looks for another tenant's ids in what `viewer` was sent. */
  look({ name }: Tenant, what: string, sent: unknown): void {
    this.attempts++;
    const text = JSON.stringify(sent) ?? "";
    const strangers = [...text.matchAll(MARK)].filter(([, whose]) => whose !== name);
    if (strangers.length > 0) this.leaks.push(`${name}, ${what}: ${text.slice(0, 300)}`);
  }

  /** Notes that this was refused, or could not be tried. */
  refused(who: Tenant, what: string, wasRefused: boolean, answer: unknown): void {
    this.attempts++;
    if (!wasRefused) this.leaks.push(`${who.name}, ${what}: ${JSON.stringify(answer).slice(0, 300)}`);
  }

  got(what: string): void {
    this.own[what] = (this.own[what] ?? 0) + 1;
  }

  tokenOf({ user, projects }: Tenant): string {
    return token(user, projects);
  }

  viewer({ user, projects }: Tenant, options: ViewerOptions & { on?: number } = {}): Promise<Viewer> {
    return this.cluster.viewer({ user, projects, ...options });
  }

  /** Looks through all that a viewer has received, but for the filters that it named itself. */
  lookThrough(who: Tenant, what: string, viewer: Viewer): void {
    for (const { event_type, payload } of viewer.received) {
      const { filters: _, ...rest } = payload as { filters?: unknown };
      if (event_type !== "FILTERS_UPDATED") this.look(who, `${what} ${event_type}`, rest);
    }
  }

  /** One answer of the HTTP side; nothing while nobody listens. */
  async ask(
    path: string,
    on: number,
    init: RequestInit = {},
  ): Promise<{ status: number; text: string } | undefined> {
    const answer = await fetch(`${this.cluster.node(on).url}${path}`, init).catch(() => undefined);
    return answer && { status: answer.status, text: await answer.text().catch(() => "") };
  }

  /** The handshake of a polling client. */
  handshake(who: Tenant, query: Record<string, string>, on: number) {
    const params = new URLSearchParams({
      EIO: "4",
      transport: "polling",
      token: this.tokenOf(who),
      ...query,
    });
    return this.ask(`/socket.io/?${params}`, on);
  }

  /** Tries to join a namespace; resolves to the code of the refusal, "came in", or "unreachable". */
  join(who: Tenant, namespace: string, on: number): Promise<string> {
    const socket = io(this.cluster.node(on).url + namespace, {
      forceNew: true,
      reconnection: false,
      transports: ["websocket"],
      query: { token: this.tokenOf(who) },
    });
    return new Promise((resolve) => {
      const end = (how: string) => {
        socket.disconnect();
        resolve(how);
      };
      socket.on("connect", () => end("came in"));
      socket.on("connect_error", (error: Error & { data?: { code: string } }) =>
        end(error.data?.code ?? "unreachable"),
      );
    });
  }
}
