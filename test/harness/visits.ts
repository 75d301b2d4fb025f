import { EventEmitter } from "node:events";
import type { EventType } from "@agentwire/shared";
import type { Joined, Visit, Visitor } from "../../server/src/node/visit.js";
import { Visits } from "../../server/src/node/visits.js";

/** Engine.IO's connection, as far as a visit needs it. */
class Wire extends EventEmitter {
  readonly transport = { name: "websocket" };
  readonly id = Math.random().toString(36);
  closes: unknown[] = [];

  close(discard?: boolean): void {
    this.closes.push(discard);
    if (this.closes.length === 1) this.emit("close", "forced close");
  }
}

/** A namespace that was joined. */
export class Heard implements Joined {
  readonly said: [EventType | "rights", unknown][] = [];
  /** Called when what was said has left. */
  leave: () => void = () => {};
  holdsBack = false;

  say(event_type: EventType, payload: unknown): void {
    this.said.push([event_type, payload]);
  }
  drained(): Promise<void> {
    return this.holdsBack ? new Promise((resolve) => (this.leave = resolve)) : Promise.resolve();
  }
  onRights(projects: ReadonlySet<string>): void {
    this.said.push(["rights", [...projects].sort()]);
  }
  get events(): string[] {
    return this.said.map(([name]) => name);
  }
}

/** Rights do not ask whether anybody is there. */
const PULSE = { answeredAt: new Date(), answers: async () => true };
let made = 0;

/** The visits of a node: opened by hand, on no network. */
export function house() {
  const visits = new Visits();
  const closed: [Visit, string][] = [];
  const open = (user = "anna", projects = ["p1"], expiresAt = Date.now() + 3_600_000) => {
    const wire = new Wire();
    const visitor: Visitor = {
      connectionId: `c${++made}`,
      user: { id: user, claims: {}, expiresAt },
      tokenDigest: "",
      projects: new Set(projects),
      filters: { agent_ids: [], project_ids: [], event_types: [] },
      encoding: "json",
      resumes: true,
      ip: "192.0.2.1",
    };
    const visit = visits.open(wire, visitor, PULSE, (...one) => closed.push(one));
    return { visit, wire };
  };
  /** One that has joined. */
  const enter = (...about: Parameters<typeof open>) => {
    const one = { ...open(...about), heard: new Heard() };
    one.visit.namespaces.add(one.heard);
    return one;
  };
  return { visits, closed, open, enter };
}
