import { setTimeout as pause } from "node:timers/promises";
import {
  compareSequence,
  type Envelope,
  type Filters,
  laterSequence,
  type PayloadOf,
  SEQUENCE_START,
  type SequenceId,
} from "@agentwire/shared";
import type { Connection, Outgoing } from "./connection.js";
import { SharedReads } from "./shared-reads.js";
import { createTurns } from "./turns.js";

type Loss = NonNullable<PayloadOf<"REPLAY_END">["reason"]>;
type AgentState = PayloadOf<"SNAPSHOT">["agents"][number];

export interface History {
  epoch: string;
  missed: { id: SequenceId; event_type: string; agent_id: string; project_id: string; new_status?: string }[];
  to: SequenceId;
  loss?: Loss;
  /** The position is one of this history, whatever it was one of before. */
  kept?: boolean;
}

/** The next stretch of a history that is read from its oldest end, as far as the client takes it. */
export interface Stretch extends History {
  /** Whether there is more after `to`. */
  more: boolean;
}

/** What a join needs from storage. Each may fail while Redis is away; none may answer with less than it was asked for. */
export interface JoinSources {
  missedBy(
    userId: string,
    projects: ReadonlySet<string>,
    after: SequenceId,
    epoch?: string,
  ): Promise<History>;
  /** As `missedBy`, but the oldest first, about `count` of them, and however many there are. */
  missedNext(
    userId: string,
    projects: ReadonlySet<string>,
    after: SequenceId,
    epoch: string,
    count: number,
  ): Promise<Stretch>;
  read(ids: SequenceId[]): Promise<({ envelope: Envelope } | undefined)[]>;
  agentsOfProjects(projectIds: string[]): Promise<AgentState[]>;
  agents(agentIds: string[]): Promise<AgentState[]>;
}

export interface JoinOptions {
  sources: JoinSources;
  outgoing(envelope: Envelope): Outgoing;
  /** Called when a connection is live, again after each refill. */
  joined(connection: Connection): void;
  /** The last event that the node has handled. */
  handledUpTo(): SequenceId;
  failed(connection: Connection, error: unknown): void;
  /** Called with what each REPLAY_END says. */
  ended(outcome: "complete" | Loss): void;
}

const PAGE = 100;
/** Of a refill: whoever needs one may be slow, and holds a page in memory for long. */
const REFILL_PAGE = 25;
const RETRY_MS = 250;
/** A node whose every connection must be refilled reads for so many at once; Redis answers each in time. */
const AT_ONCE = 32;

/** One replay under way: what was sent, what is known to be missing, what was read before it began. */
interface Replay {
  begun?: boolean;
  count: number;
  loss?: Loss | undefined;
  known?: History | undefined;
}

/** A stretch without what comes after this place. */
function upTo(stretch: Stretch, end: SequenceId): Stretch {
  if (stretch.loss || compareSequence(stretch.to, end) <= 0) return stretch;
  const missed = stretch.missed.filter(({ id }) => compareSequence(id, end) <= 0);
  return { ...stretch, missed, to: end, more: false };
}

/** How a connection begins: with a snapshot, or after its position, of which `known` was read before it had its rooms. */
export type Start = { name: "first" } | { name: "resume"; known?: History };

/**
 * Stitches history to live, and is the only code that may. The connection is in its rooms and holds live events back;
 * what it missed is read from Redis after that, so the two overlap and nothing falls between them; what comes twice is
 * known by its `sequence_id`. Also refills a connection whose live delivery had a hole.
 */
export function createJoin({ sources, outgoing, joined, handledUpTo, failed, ended }: JoinOptions) {
  const inTurn = createTurns(AT_ONCE);

  const read: JoinSources = {
    missedBy: (...about) => inTurn(() => sources.missedBy(...about)),
    missedNext: (...about) => inTurn(() => sources.missedNext(...about)),
    read: (ids) => inTurn(() => sources.read(ids)),
    agentsOfProjects: (ids) => inTurn(() => sources.agentsOfProjects(ids)),
    agents: (ids) => inTurn(() => sources.agents(ids)),
  };
  const shared = new SharedReads({ read: read.read, outgoing });

  /** A refill is one connection's own: nobody else asks for the same, and it may be slow. */
  async function readEvents(connection: Connection, ids: SequenceId[]): Promise<(Outgoing | undefined)[]> {
    if (!connection.refill) return shared.read(ids);
    return (await read.read(ids)).map((entry) => entry && outgoing(entry.envelope));
  }

  async function snapshot(connection: Connection): Promise<void> {
    const { exit } = connection;
    let filters: Filters;
    let states: AgentState[];
    do {
      filters = connection.filters;
      const { agent_ids, project_ids } = filters;
      states = await (agent_ids.length > 0
        ? read.agents(agent_ids)
        : read.agentsOfProjects(project_ids.length > 0 ? project_ids : [...connection.projects]));
    } while (connection.filters !== filters);
    const event_type = "AGENT_STATUS_CHANGED";
    const agents = states.filter((agent) =>
      connection.wants({ event_type, ...agent, new_status: agent.status }),
    );
    exit.say("SNAPSHOT", { agents, sequence_id: connection.position });
  }

  /**
   * Reads what follows the position. Rights that change meanwhile count for it, too: it is read again, because it says
   * how far it goes, and lacks what is new.
   */
  async function readMissed<T extends History>(
    connection: Connection,
    ask: (...about: [string, ReadonlySet<string>, SequenceId, string]) => Promise<T>,
  ): Promise<T> {
    for (;;) {
      const { userId, projects, position, epoch } = connection;
      const found = await ask(userId, projects, position, epoch);
      if (connection.projects === projects) return found;
    }
  }

  /** Filters and rights that change while Redis is asked count for all that is not sent yet. */
  async function readWanted(connection: Connection, page: History["missed"]) {
    for (;;) {
      const { filters, projects } = connection;
      const wanted = page.filter((event) => connection.wants(event, event.id)).map(({ id }) => id);
      const events = wanted.length > 0 ? await readEvents(connection, wanted) : [];
      if (connection.filters === filters && connection.projects === projects) return events;
    }
  }

  /** Sends what of this history the connection wants, and notes in `replay` what that was and what is missing. */
  async function send(connection: Connection, history: History, replay: Replay): Promise<void> {
    const { exit } = connection;
    replay.loss ??= history.loss;
    // Positions in another history are no positions in this one.
    if (history.loss === "history_lost" && !history.kept) {
      connection.position = SEQUENCE_START;
      connection.lastSent = SEQUENCE_START;
    }
    connection.epoch = history.epoch;
    for (let start = 0; start < history.missed.length && exit.open; start += PAGE) {
      const page = history.missed.slice(start, start + PAGE);
      for (const event of await readWanted(connection, page)) {
        if (event) {
          connection.pass(event);
          replay.count++;
        } else replay.loss ??= "trimmed";
      }
      connection.position = laterSequence(connection.position, page.at(-1)?.id ?? SEQUENCE_START);
      await exit.drained();
    }
    connection.position = laterSequence(connection.position, history.to);
  }

  /**
   * Brings what the gate dropped, the oldest first, as fast as its limits and the client let it. There may be any number
   * of them: they are read as they are sent.
   */
  async function refill(connection: Connection, replay: Replay): Promise<void> {
    const { exit } = connection;
    for (let more = true; more && exit.open; ) {
      connection.startRead();
      // What the node has not handled yet will be heard, and is not to be brought twice.
      const handled = handledUpTo();
      const next = await readMissed(connection, (...about) => read.missedNext(...about, REFILL_PAGE));
      const stretch = connection.hasHole ? next : upTo(next, handled);
      // What is gone is gone for a replay as well, which says so and sends the newest.
      if (stretch.loss) return send(connection, await readMissed(connection, read.missedBy), replay);
      await send(connection, stretch, replay);
      exit.announceMissed();
      more = stretch.more;
    }
  }

  /** From REPLAY_START to REPLAY_END. Where Redis fails on the way, the next try goes on from the position. */
  async function fill(connection: Connection, replay: Replay): Promise<void> {
    const { exit } = connection;
    // What was sent before the hole leaves before anything is said about it.
    await exit.drained();
    exit.announceMissed();
    if (!replay.begun) exit.say("REPLAY_START", { from: connection.position });
    replay.begun = true;
    const { known } = replay;
    replay.known = undefined;
    if (known) await send(connection, known, replay);
    if (connection.refill) await refill(connection, replay);
    else await send(connection, await readMissed(connection, read.missedBy), replay);
    exit.announceMissed();
    const { count, loss } = replay;
    exit.say("REPLAY_END", {
      to: connection.position,
      count,
      complete: !loss,
      ...(loss && { reason: loss }),
    });
    ended(loss ?? "complete");
  }

  return async (connection: Connection, start: Start): Promise<void> => {
    // What is still due: it outlives a Redis that fails half-way, so that nothing of it is forgotten.
    let replay: Replay | undefined = start.name === "resume" ? { count: 0, known: start.known } : undefined;
    let owesSnapshot = start.name === "first";
    while (connection.exit.open) {
      try {
        if (replay) {
          await fill(connection, replay);
          owesSnapshot ||= replay.loss !== undefined;
          replay = undefined;
        }
        if (owesSnapshot) await snapshot(connection);
        owesSnapshot = false;
        if (connection.goLive()) return joined(connection);
        replay = { count: 0 };
      } catch (error) {
        // Redis is away: the connection keeps its position, and what comes live is held back until it is there again.
        failed(connection, error);
        await pause(RETRY_MS);
      }
    }
  };
}
