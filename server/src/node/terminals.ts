import { setTimeout as pause } from "node:timers/promises";
import { type Envelope, Id, limits, terminalNamespace } from "@agentwire/shared";
import type { Logger } from "pino";
import type { Server, Socket } from "socket.io";
import { connectError } from "./connect-error.js";
import type { Exit, Outgoing } from "./connection.js";
import { type Heard, hear, judgeNothing } from "./input.js";
import { Terminal, type TerminalSource, type TerminalState } from "./terminal.js";
import { freeWhenEmpty } from "./terminal-lifetime.js";
import { type TerminalExit, TerminalOutlet } from "./terminal-outlet.js";
import { TerminalViewer } from "./terminal-viewer.js";
import type { Joined, Visit, Visitor } from "./visit.js";

export interface TerminalsOptions {
  /** Nothing for a connection that did not come through the door. */
  visit(connection: object): Visit | undefined;
  exit(socket: Socket, how: { encoding: Visitor["encoding"]; offsets: boolean }): Exit & TerminalExit;
  source: TerminalSource & { state(task: string): Promise<TerminalState> };
  outgoing(namespace: string, envelope: Envelope): Outgoing;
  /** It has joined the namespace of a terminal. */
  onJoined(visit: Visit): void;
  /** Of a worker that nothing slows down; 0: as many as there are. */
  bytesPerSecond: number;
  maxMessageBytes: number;
  logger: Logger;
}

/** A client that was let in. */
interface Admitted {
  visit: Visit;
  task: string;
  from: number | undefined;
  state: TerminalState;
}

/** Who lost a right has so long to be told. */
const LAST_WORDS_MS = 1000;

const BEFORE = terminalNamespace("");
const taskIn = (namespace: string): string => namespace.slice(BEFORE.length);
const isTerminal = (namespace: string): boolean =>
  namespace.startsWith(BEFORE) && Id.safeParse(taskIn(namespace)).success;

const maySee = (projects: ReadonlySet<string>, of: readonly string[]): boolean =>
  of.length > 0 && of.every((id) => projects.has(id));

/**
 * A namespace per terminal, for those who may see its task. It is there as long as somebody is in it.
 * @returns how many there are
 */
export function serveTerminals(io: Server, options: TerminalsOptions): { readonly size: number } {
  const { source, logger } = options;
  const terminals = new Map<string, Terminal>();
  /** By visit, the tasks whose terminals are open, or on the way. */
  const opened = new WeakMap<Visit, Set<string>>();
  const admitted = new WeakMap<Socket, Admitted>();

  const admit = async (socket: Socket): Promise<Error | undefined> => {
    const visit = options.visit(socket.conn);
    if (!visit) return connectError("NAMESPACE_UNKNOWN");
    const task = taskIn(socket.nsp.name);
    const { from } = socket.handshake.auth as { from?: unknown };
    if (from !== undefined && !(Number.isSafeInteger(from) && (from as number) >= 0))
      return connectError("BAD_REQUEST", "from: must be a byte offset");
    const tasks = opened.get(visit) ?? new Set();
    opened.set(visit, tasks);
    if (tasks.has(task)) {
      socket.conn.close();
      return connectError("BAD_REQUEST");
    }
    if (tasks.size >= limits.terminalsPerConnection)
      return connectError("RATE_LIMITED", `at most ${limits.terminalsPerConnection} terminals`);
    tasks.add(task);
    try {
      const state = await source.state(task);
      if (maySee(visit.projects, state.projects)) {
        admitted.set(socket, { visit, task, from: from as number | undefined, state });
        return undefined;
      }
      tasks.delete(task);
      return connectError("TASK_NOT_FOUND");
    } catch (error) {
      tasks.delete(task);
      logger.warn({ err: String(error) }, "terminal could not be opened");
      return connectError("UNAVAILABLE");
    }
  };

  const terminalOf = (task: string): Terminal => {
    const known = terminals.get(task);
    if (known) return known;
    const terminal: Terminal = new Terminal({
      ...options,
      task,
      onError: (error) => logger.warn({ task_id: task, err: String(error) }, "terminal not heard"),
      onEnded: () => forget(task, terminal),
    });
    terminals.set(task, terminal);
    return terminal;
  };
  const forget = (task: string, terminal: Terminal) => {
    if (terminals.get(task) === terminal) terminals.delete(task);
  };

  const parent = io.of((name, _auth, next) => next(null, isTerminal(name)));
  const namespaces = freeWhenEmpty(parent);
  parent.use(async (socket, next) => next(await admit(socket)));
  parent.on("connection", (socket) => {
    const known = admitted.get(socket);
    if (!known) return socket.disconnect();
    const { visit, task, from, state } = known;
    const { encoding, resumes } = visit.visitor;
    const exit = options.exit(socket, { encoding, offsets: resumes });
    const outlet = new TerminalOutlet(task, exit, () => socket.disconnect());
    let leave = () => {};

    const revoke = () => {
      leave();
      outlet.close();
      exit.withdraw(() => false);
      // What it is told comes after this.
      setImmediate(() => {
        void Promise.race([exit.drained(), pause(LAST_WORDS_MS)]).then(() => socket.disconnect());
      });
    };
    const joined: Joined = {
      say: (event_type, payload) => exit.say(event_type, payload),
      drained: () => exit.drained(),
      onRights(projects) {
        if (!maySee(projects, state.projects)) revoke();
      },
    };
    visit.namespaces.add(joined);
    options.onJoined(visit);
    socket.on("disconnect", () => {
      visit.namespaces.delete(joined);
      opened.get(visit)?.delete(task);
      leave();
      outlet.close();
    });
    hear(socket, wishes(outlet), logger);

    // They may have changed since they were asked for.
    if (!maySee(visit.projects, state.projects)) {
      exit.say("ACCESS_REVOKED", { project_ids: state.projects });
      return revoke();
    }
    if (state.ended) {
      const { offset, ...how } = state.ended;
      outlet.ready(offset);
      if (from !== undefined && from < offset)
        outlet.push({ kind: "gap", from, to: offset, reason: "trimmed" });
      return outlet.push({ kind: "end", from: offset, ...how });
    }
    const terminal = terminalOf(task);
    const viewer = new TerminalViewer({
      from,
      outlet,
      chunks: terminal.chunks,
      askTail: (from, listener) => terminal.askTail(from, listener),
      next: () => terminal.next,
    });
    leave = () => {
      terminal.remove(viewer);
      if (terminal.empty) forget(task, terminal);
    };
    terminal.add(viewer);
  });
  return namespaces;
}

/** What a viewer may say. */
function wishes(outlet: TerminalOutlet): Map<string, Heard> {
  const wish = (what: () => void): Heard => ({
    judge: judgeNothing,
    async take(_args, answer) {
      what();
      answer?.({ ok: true });
    },
  });
  return new Map([
    ["PAUSE_STREAM", wish(() => outlet.pause())],
    ["RESUME_STREAM", wish(() => outlet.resume())],
  ]);
}
