import { type SequenceId, type StatusChange, stamp } from "@agentwire/shared";
import { microseconds } from "../clock.js";
import { text } from "./text.js";

export const EVENT = "AGENT_STATUS_CHANGED";

/**
 * - `usual`: with a UUID, a task and a line of text
 * - `short`: as few bytes as our envelope can have
 * - `long`: with a message of 4 KB
 */
export type Kind = "usual" | "short" | "long";

type Change = StatusChange & { event_id: string };

const AGENTS = 20;
const FILLING = "step 12 of 40: writing the tests, 3 files changed, 120 lines";
const LONG = 4096;

/** Events, like viewers, go to the projects in turn. */
export const project = (n: number, projects: number): string =>
  `bench-${((n % projects) + projects) % projects}`;

/** The how-manieth of its project an event is: from 1, as the events are; below that it belongs to the warm-up. */
export const countInProject = (n: number, projects: number): number => Math.ceil(n / projects);

/** Number `n` of the run, saying in its message which it is and when it was published. */
export function change(kind: Kind, n: number, projects: number): Change {
  const said = `${n} ${microseconds().toFixed(1)}`;
  const statuses = { old_status: "working", new_status: "working" } as const;
  const project_id = project(n, projects);
  const i = Math.abs(n) % AGENTS;
  const usual = { agent_id: `agent-${i}`, project_id, task_id: `task-${i}`, ...statuses };
  switch (kind) {
    case "usual":
      return { ...usual, event_id: crypto.randomUUID(), message: `${said} ${FILLING}` };
    case "short":
      return {
        ...statuses,
        event_id: `e${n}`,
        agent_id: `a-${project_id}`,
        project_id,
        message: `${said} ok`,
      };
    case "long":
      return { ...usual, event_id: crypto.randomUUID(), message: `${said} ${longText(n, said.length + 1)}` };
  }
}

/** In the place of the id that only our log can give. */
const NO_POSITION: SequenceId = "1700000000000-0";

/**
 * The arguments that stock Socket.IO is given to emit: our envelope. The `usual` one as stock would have it, without our
 * `sequence_id`; the others with a made-up one, so that each side sends as many bytes.
 */
export function emitted(kind: Kind, { event_id, ...payload }: Change): unknown[] {
  const envelope = stamp(EVENT, event_id, { ...payload, old_status: payload.old_status ?? null });
  if (kind === "usual") return [EVENT, envelope];
  return [EVENT, { sequence_id: NO_POSITION, ...envelope }, NO_POSITION];
}

/** What a viewer reads from a message, or from its beginning; `length` is that of the text before what it says. */
export function readMessage(message: string): { n: number; published: number; length: number } {
  const [n = "", published = ""] = message.split(" ", 2);
  return { n: Number(n), published: Number(published), length: n.length + published.length + 2 };
}

/** What the message of a `long` event says after that. */
export const longText = (n: number, length: number): string => text(n, LONG - length);
