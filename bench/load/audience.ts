import { setTimeout as pause } from "node:timers/promises";
import { answerQuestions } from "../child.js";
import { BareViewer } from "./bare-viewer.js";
import { type Seen as SeenTogether, together } from "./tally.js";
import { type Listener, type Target, Viewer } from "./viewer.js";

/**
 * - `stock`: socket.io-client
 * - `bare`: a bare WebSocket
 * - `deflating`: one that offers permessage-deflate, and checks each event's text
 */
export type Client = "stock" | "bare" | "deflating";

/**
 * In this order:
 * - `join` answers when every viewer has joined, with the number of those that agreed on permessage-deflate
 * - `warm` when each heard the last event of the warm-up: whether they did
 * - `complete` when each heard the last event: whether they did
 * - `result`
 */
export type Ask =
  | { ask: "join"; targets: Target[]; client: Client; expected: number; projects: number }
  | { ask: "warm" }
  | { ask: "complete"; patienceMs: number }
  | { ask: "result" };

export interface Seen extends SeenTogether {
  disconnects: number;
  damaged: number;
  /** On the line, per delivery. */
  bytes: number;
}

const WARM_MS = 20_000;
/** As many connect at once. */
const AT_ONCE = 50;
const viewers: Listener[] = [];
let bytesBefore = 0;

const sum = (of: (viewer: Listener) => number): number =>
  viewers.reduce((total, viewer) => total + of(viewer), 0);

async function until(condition: () => boolean, ms: number): Promise<boolean> {
  for (const end = Date.now() + ms; !condition(); await pause(20)) if (Date.now() > end) return false;
  return true;
}

async function join({ targets, client, expected, projects }: Ask & { ask: "join" }): Promise<number> {
  const hearing = { expected, projects, deflate: client === "deflating" };
  const open = (target: Target) =>
    client === "stock" ? new Viewer(target, expected) : new BareViewer(target, hearing);
  for (let start = 0; start < targets.length; start += AT_ONCE) {
    const next = targets.slice(start, start + AT_ONCE).map(open);
    viewers.push(...next);
    await Promise.all(next.map(({ joined }) => joined));
  }
  return sum(({ deflates }) => Number(deflates));
}

async function result(): Promise<Seen> {
  const bytes = sum(({ bytes }) => bytes) - bytesBefore;
  // A repeat may come after the last event.
  await pause(200);
  const seen = together(viewers.map(({ tally }) => tally));
  const [disconnects, damaged] = [sum(({ disconnects }) => disconnects), sum(({ damaged }) => damaged)];
  return { ...seen, disconnects, damaged, bytes: bytes / seen.received };
}

answerQuestions<Ask>(async (question) => {
  switch (question.ask) {
    case "join":
      return join(question);
    case "warm": {
      const warm = await until(() => viewers.every(({ tally }) => tally.warm), WARM_MS);
      bytesBefore = sum(({ bytes }) => bytes);
      return warm;
    }
    case "complete":
      return until(() => viewers.every(({ tally }) => tally.missing === 0), question.patienceMs);
    case "result":
      return result();
  }
});
