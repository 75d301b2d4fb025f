import {
  AGENTS_NAMESPACE,
  type Envelope,
  events,
  filterable,
  type PayloadOf,
  type SequenceId,
} from "@agentwire/shared";
import type { Socket } from "socket.io";
import type { Outgoing } from "../../server/src/node/connection.js";
import { Hub } from "../../server/src/node/hub.js";
import { createJoin, type JoinSources } from "../../server/src/node/join.js";
import { numberOf, sequenceId } from "./gate.js";

type AgentStates = Awaited<ReturnType<JoinSources["agentsOfProjects"]>>;

/** Promises that can go on do so. */
export const breath = () => new Promise<void>((resolve) => setImmediate(resolve));

/** As much of a socket as the gate asks for. */
export const socketOf = (namespace: string = AGENTS_NAMESPACE) =>
  ({ connected: true, nsp: { name: namespace } }) as unknown as Socket;

/** The rooms that a status change goes to. */
export const roomsOf = ({ payload }: Envelope) =>
  events.AGENT_STATUS_CHANGED.rooms(payload as PayloadOf<"AGENT_STATUS_CHANGED">);

export interface HubRigOptions {
  /** What it holds at the beginning was read from the stream. It may grow. */
  log: Envelope[];
  /** So many events a stretch of history has. */
  stretch: number;
  outgoing(envelope: Envelope): Outgoing;
  failed(error: unknown): void;
  agentsOfProjects?(ids: string[]): AgentStates;
}

/** Hub and join of a node over a log in memory. What comes from the stream, and when Redis answers, is moved by hand. */
export class HubRig {
  readonly hub: Hub;
  readonly #log: readonly Envelope[];
  /** Up to where the stream was read. */
  #read: number;
  /** Questions to Redis, each answered when it is let go: once before it is read, once after. */
  readonly #asked: (() => void)[] = [];

  constructor({ log, stretch, outgoing, failed, agentsOfProjects = () => [] }: HubRigOptions) {
    this.#log = log;
    this.#read = log.length;
    const join = createJoin({
      ended: () => {},
      sources: this.#sources(stretch, agentsOfProjects),
      outgoing,
      joined: () => {},
      handledUpTo: () => this.hub.last,
      failed: (_, error) => failed(error),
    });
    const progress = { watch() {}, unwatch() {}, ended() {} };
    this.hub = new Hub({ outgoing, join, onArrival: () => {}, onRefill: () => {}, progress });
    this.hub.continuity.epoch = "now";
    this.hub.continuity.last = this.#head;
  }

  get #head(): SequenceId {
    return sequenceId(this.#log.length);
  }

  /** The stream brings so many, where there are so many. `comes` is told the number of each before the hub has it. */
  hear(count: number, comes: (n: number) => void = () => {}): void {
    for (let n = 0; n < count; n++) {
      const envelope = this.#log[this.#read];
      if (!envelope) return;
      const prev = sequenceId(this.#read++);
      comes(this.#read);
      this.hub.entry({
        id: sequenceId(this.#read),
        prev,
        epoch: "now",
        rooms: roomsOf(envelope),
        envelope,
      });
    }
  }

  /** The stream's reader misses so many. */
  lose(count: number): void {
    this.#read = Math.min(this.#log.length, this.#read + count);
  }

  /** Finds what the reader lost at the end. */
  look(): void {
    if (this.#read === this.#log.length && this.hub.last !== this.#head)
      this.hub.level("behind", this.#head, "now");
  }

  /** Lets so many questions go on, one after the other. */
  async answer(count: number): Promise<void> {
    for (let n = 0; n < count; n++) {
      this.#asked.shift()?.();
      await breath();
    }
  }

  #sources(stretch: number, agentsOfProjects: (ids: string[]) => AgentStates): JoinSources {
    const letGo = () => new Promise<void>((resolve) => this.#asked.push(resolve));
    const ask = async <T>(read: () => T): Promise<T> => {
      await letGo();
      const found = read();
      await letGo();
      return found;
    };
    const after = (position: SequenceId, projects: ReadonlySet<string>) =>
      this.#log
        .slice(numberOf(position))
        .map((one) => ({ ...filterable(one), id: one.sequence_id as SequenceId }))
        .filter(({ project_id }) => projects.has(project_id));
    return {
      missedBy: (_user, projects, position) =>
        ask(() => ({ epoch: "now", missed: after(position, projects), to: this.#head })),
      missedNext: (_user, projects, position) =>
        ask(() => {
          const all = after(position, projects);
          const some = all.slice(0, stretch);
          const more = all.length > stretch;
          return { epoch: "now", missed: some, to: more ? (some.at(-1)?.id ?? position) : this.#head, more };
        }),
      read: (ids) => ask(() => ids.map((id) => ({ envelope: this.#log[numberOf(id) - 1] as Envelope }))),
      agents: () => ask(() => []),
      agentsOfProjects: (ids) => ask(() => agentsOfProjects(ids)),
    };
  }
}
