import { setTimeout as pause } from "node:timers/promises";
import { answerQuestions } from "../child.js";
import { Returner, type ReturnTarget } from "./returner.js";

/**
 * In this order:
 * - `join` answers when everybody is in
 * - `stay`: who loses the connection stays away; `cut`: everybody loses it; `away` answers when everybody is away
 * - `return` answers when everybody is back and has what it will get of the events up to `goal`, or patience is over
 * - `result`, once each event up to `last` came or patience is over
 * - `begin again` after a warm-up, which ended with event number `last`
 */
export type ReturnersAsk =
  | { ask: "join"; targets: ReturnTarget[]; projects: number }
  | { ask: "stay" | "cut" | "away" }
  | { ask: "return"; goal: number; home: boolean; patienceMs: number }
  | { ask: "begin again"; last: number }
  | { ask: "result"; last: number; patienceMs: number };

/** Times are of the machine's monotonic clock, in µs. */
export interface Returned {
  clients: number;
  /** When the last of those who came back did, and when the last of those who became complete was. */
  lastBack: number;
  lastComplete: number;
  neverBack: number;
  /** Who came back with a new session, instead of the one that it had. */
  startedAnew: number;
  /** Who is here and lacks something, by `last`. */
  incomplete: number;
  lost: number;
  doubled: number;
}

const AT_ONCE = 50;
const clients: Returner[] = [];

async function until(condition: () => boolean, ms: number): Promise<boolean> {
  for (const end = Date.now() + ms; !condition(); await pause(20)) if (Date.now() > end) return false;
  return true;
}

const greatest = (of: (client: Returner) => number | undefined): number =>
  clients.reduce((most, client) => Math.max(most, of(client) ?? 0), 0);

const sum = (of: (client: Returner) => number | boolean): number =>
  clients.reduce((total, client) => total + Number(of(client)), 0);

async function result(last: number, patienceMs: number): Promise<Returned> {
  await until(() => clients.every((one) => one.startedAnew || one.upTo >= last), patienceMs);
  // A copy may come after the last event.
  await pause(200);
  const faults = clients.map((one) => one.faults(last));
  return {
    clients: clients.length,
    lastBack: greatest(({ backAt }) => backAt),
    lastComplete: greatest(({ completeAt }) => completeAt),
    neverBack: sum(({ backAt, connected }) => backAt === undefined || !connected),
    startedAnew: sum(({ startedAnew }) => startedAnew),
    incomplete: faults.filter(({ lost }) => lost > 0).length,
    lost: faults.reduce((total, { lost }) => total + lost, 0),
    doubled: faults.reduce((total, { doubled }) => total + doubled, 0),
  };
}

answerQuestions<ReturnersAsk>(async (question) => {
  switch (question.ask) {
    case "join":
      for (let start = 0; start < question.targets.length; start += AT_ONCE) {
        const some = question.targets.slice(start, start + AT_ONCE);
        const next = some.map((target) => new Returner(target, question.projects));
        clients.push(...next);
        await Promise.all(next.map(({ joined }) => joined));
      }
      return true;
    case "stay":
      for (const client of clients) client.stay();
      return true;
    case "cut":
      for (const client of clients) client.cut();
      return true;
    case "away":
      return until(() => clients.every(({ connected }) => !connected), 20_000);
    case "return":
      for (const client of clients) client.return(question.goal, question.home);
      return until(
        () => clients.every(({ complete, startedAnew }) => complete || startedAnew),
        question.patienceMs,
      );
    case "begin again":
      for (const client of clients) client.beginAgain(question.last);
      return true;
    case "result":
      return result(question.last, question.patienceMs);
  }
});
