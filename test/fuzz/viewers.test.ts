// Long: one run of everything that can happen to viewers, and the books that are kept of it.
import { setTimeout as pause } from "node:timers/promises";
import { compareSequence, type Filters, matches, SEQUENCE_START, statuses } from "@agentwire/shared";
import { expect } from "chai";
import { type Cluster, startCluster, UNLIMITED } from "../harness/cluster.js";
import { type LogEntry, readLog } from "../harness/events-log.js";
import { Ledger } from "../harness/ledger.js";
import type { Viewer } from "../harness/viewer.js";
import { until } from "../harness/wait.js";
import { createRandom, type Random } from "./random.js";

const PROJECTS = ["p1", "p2", "p3"];
const RIGHTS: Record<string, string[]> = { anna: ["p1", "p2"], ben: ["p2", "p3"], cara: PROJECTS };
const NODES = 3;
const VIEWERS = 9;
const STEPS = Number(process.env.FUZZ_STEPS ?? 60);
/** What is due may have to come at the pace of the limits. */
const DUE_MS = 150_000;

interface Mode {
  settings: Record<string, string>;
  /** Whether what is published is more than the limits let through. */
  flooded: boolean;
}
const MODES: [what: string, mode: Mode][] = [
  ["no limits", { settings: UNLIMITED, flooded: false }],
  [
    "far above the limits",
    {
      settings: {
        WS_RATE_LIMIT_PER_CONNECTION: "40",
        WS_RATE_LIMIT_GLOBAL: "300",
        WS_SEND_BUFFER_SIZE: "10",
        WS_QUEUE_TTL: "1",
      },
      flooded: true,
    },
  ],
];

/** A viewer, and which filters were in force after which event. */
interface Watched {
  viewer: Viewer;
  ledger: Ledger;
  projects: string[];
  inForce: InForce[];
}

interface InForce {
  after: string;
  filters: Filters;
  /** How far the viewer had come when it was told so: what still waited then may be judged by these filters, too. */
  seen: string;
  /** How many changes had come by then. A CRITICAL one that came early came by the filters of then. */
  had: number;
}

const all: Filters = { agent_ids: [], project_ids: [], event_types: [] };

function randomFilters(random: Random, projects: string[]): Filters {
  return {
    agent_ids: random.chance(0.4) ? ["a0", "a1", "a2"].filter(() => random.chance(0.6)) : [],
    project_ids: random.chance(0.4) ? [random.pick(projects)] : [],
    event_types: random.chance(0.3) ? [random.pick(["STATUS_CHANGED", "FAILED", "WORKING", "PROGRESS"])] : [],
  };
}

/** What the viewer had the right, and the wish, to see: each event judged by the filters in force after it. */
function expected({ projects, inForce }: Watched, log: LogEntry[]): string[] {
  const now = (id: string) => inForce.findLast(({ after }) => compareSequence(after, id) < 0);
  const next = (id: string) =>
    inForce.filter(({ after, seen }) => compareSequence(seen, id) < 0 && compareSequence(id, after) <= 0);
  return log
    .filter((entry) => wants(projects, now(entry.id)?.filters, entry))
    .filter((entry) => next(entry.id).every(({ filters }) => wants(projects, filters, entry)))
    .map(({ id }) => id);
}

/**
 * What may come beside that: an event from before a change of filters that the new ones want. A client that comes back
 * with an offset from before the change is judged by the new filters from there on.
 */
function allowed({ projects, inForce, ledger }: Watched, log: LogEntry[]): Set<string> {
  const later = (id: string) => {
    const now = inForce.findLastIndex(({ after }) => compareSequence(after, id) < 0);
    return inForce.slice(Math.max(0, now));
  };
  const may = log.filter((entry) => later(entry.id).some(({ filters }) => wants(projects, filters, entry)));
  const early = ledger.changes.flatMap(({ id, urgent }, n) => {
    const filters = inForce.findLast(({ had }) => had <= n)?.filters;
    const entry = urgent && log.find((one) => one.id === id);
    return entry && wants(projects, filters, entry) ? [id] : [];
  });
  return new Set([...may.map(({ id }) => id), ...early]);
}

function wants(projects: string[], filters: Filters | undefined, { envelope }: LogEntry): boolean {
  const { payload, event_type } = envelope;
  return (
    filters !== undefined &&
    projects.includes(payload.project_id) &&
    matches(filters, { event_type, ...payload })
  );
}

/** The first events that are wrong, and what was in force about then. */
function explain(one: Watched, due: string[], log: LogEntry[]): string {
  const { viewer, inForce } = one;
  const got = new Set(viewer.log);
  const may = allowed(one, log);
  const extra = viewer.log.filter((id) => !due.includes(id) && !may.has(id));
  const missing = due.filter((id) => !got.has(id));
  const first = missing[0] ?? extra[0];
  const story = viewer.received.flatMap(({ event_type, payload, sequence_id }) => {
    if (event_type !== "AGENT_STATUS_CHANGED")
      return [`${event_type} ${JSON.stringify(payload).slice(0, 300)}`];
    return sequence_id === first ? [`${event_type} ${sequence_id}`] : [];
  });
  const event = log.find(({ id }) => id === first)?.envelope;
  const counts = `missing ${missing.length}, extra ${extra.length}, first ${JSON.stringify({ first, ...event })}`;
  return [counts, JSON.stringify(inForce), ...story].join("\n");
}

/** Publishes through each way in until it is stopped: without pause, or in bursts. */
function publishAll(cluster: Cluster, random: Random, { flooded }: Mode) {
  const worker = cluster.worker();
  const bus = cluster.client();
  let on = true;
  const anyChange = () => ({
    agent_id: `a${random.below(4)}`,
    project_id: random.pick(PROJECTS),
    new_status: random.pick(statuses),
  });
  const loop = (async () => {
    while (on) {
      const change = anyChange();
      const way = random.below(10);
      if (way < 8) await worker.agentStatus(change);
      else if (way === 8) {
        const to = random.below(NODES) + 1;
        const { agent_id, project_id, new_status } = change;
        const body = { event_type: "AGENT_STATUS_CHANGED", agent_id, project_id, payload: { new_status } };
        // A node that is down or hangs refuses; that is no event then.
        if ((await cluster.node(to).readyz()) === 200)
          await cluster.post(body, { to }).catch(() => undefined);
      } else {
        const { agent_id, ...payload } = change;
        const message = {
          event_type: "AGENT_STATUS_CHANGED",
          entity_type: "agent",
          entity_id: agent_id,
          payload,
        };
        await bus.publish(cluster.keys.bus("AGENT_STATUS_CHANGED"), JSON.stringify(message));
      }
      if (flooded && random.chance(0.2)) {
        await Promise.all(Array.from({ length: random.below(150) }, () => worker.agentStatus(anyChange())));
        await pause(random.below(1000));
      } else await pause(random.below(8));
    }
  })();
  return async () => {
    on = false;
    await loop;
  };
}

describe("fuzz", () => {
  for (const [what, mode] of MODES) {
    it(`[D4][D5][D7][D11][D20][D21] ${what}: whatever happens, each viewer's log in the end is what it had the right to see`, async function () {
      this.timeout(60_000 + STEPS * 2000 + (mode.flooded ? DUE_MS : 0));
      const seed = Number(process.env.FUZZ_SEED ?? Date.now() % 1_000_000);
      console.log(`      seed ${seed} (FUZZ_SEED=${seed} repeats it)`);
      const random = createRandom(seed);
      const cluster = await startCluster({
        nodes: NODES,
        settings: { ...mode.settings, WS_MAX_REPLAY_MESSAGES: "100000" },
      });
      const done: string[] = [];

      const watched: Watched[] = [];
      for (let n = 0; n < VIEWERS; n++) {
        const [user, projects] = random.pick(Object.entries(RIGHTS));
        const viewer = await cluster.viewer({ on: (n % NODES) + 1, user, projects });
        const ledger = new Ledger(viewer);
        await viewer.joined();
        const begins = viewer.payloads("READY")[0]?.sequence_id as string;
        watched.push({
          viewer,
          ledger,
          projects,
          inForce: [{ after: begins, seen: begins, had: 0, filters: all }],
        });
      }
      const stopPublishing = publishAll(cluster, createRandom(seed + 1), mode);

      /** A SUBSCRIBE into a connection that is lost already has no answer: everybody is to notice first. */
      const lose = async (victims: Watched[], how: () => unknown): Promise<void> => {
        const before = victims
          .filter(({ viewer }) => viewer.socket.connected)
          .map(({ viewer }) => ({ viewer, count: viewer.disconnects }));
        await how();
        for (const { viewer, count } of before)
          await viewer.sees("its connection lost", () => viewer.disconnects > count);
      };
      const onNode =
        (n: number) =>
        ({ viewer }: Watched) =>
          viewer.payloads("READY").at(-1)?.instance_id === `node-${n}`;

      const step = async (): Promise<void> => {
        // Which node a viewer is on is known by the READY of its latest connection.
        for (const { viewer } of watched) {
          await viewer.sees("its READY", ({ socket, ready }) => ready || !socket.connected);
        }
        const one = random.pick(watched);
        const who = watched.indexOf(one);
        const n = random.below(NODES) + 1;
        const what = random.below(100);
        if (what < 30) {
          const filters = randomFilters(random, one.projects);
          done.push(`viewer ${who} subscribes ${JSON.stringify(filters)}`);
          one.viewer.socket.connect();
          // A connection that was cut while it began looks connected for a moment. Asking for the same filters once more
          // changes nothing, and its answer shows that the connection lives.
          const same = one.inForce.at(-1)?.filters;
          await until("it answers", () => one.viewer.subscribe(same).then(Boolean, () => false));
          const answer = await one.viewer.subscribe(filters);
          expect(answer.ok).to.equal(true);
          const after = answer.sequence_id as string;
          const seen = mode.flooded ? (one.ledger.lastOffset ?? SEQUENCE_START) : after;
          one.inForce.push({ after, seen, had: one.ledger.changes.length, filters });
        } else if (what < 50) {
          done.push(`viewer ${who} loses its connection`);
          await lose([one], () => one.viewer.socket.io.engine?.close());
        } else if (what < 60) {
          done.push(`viewer ${who} leaves, or comes back`);
          if (one.viewer.socket.active) one.viewer.socket.disconnect();
          else one.viewer.socket.connect();
        } else if (what < 70) {
          done.push(`front ${n} is cut`);
          const front = await cluster.front(n);
          const behind = watched.filter(({ viewer }) => viewer.url === front.url);
          await lose(behind, () => front.cut());
        } else if (what < 78) {
          done.push(`node ${n} hangs for a while`);
          cluster.node(n).pause();
          await pause(random.below(800));
          cluster.node(n).resume();
        } else if (what < 84) {
          done.push(`node ${n} is killed and comes back`);
          await lose(watched.filter(onNode(n)), () => cluster.node(n).restart());
        } else await pause(random.below(300));
      };

      try {
        for (let n = 0; n < STEPS; n++) await step();
        await stopPublishing();
        await until("the bus is empty", async () => {
          const before = await cluster.client().get(cluster.keys.head);
          // A node that was killed has the lease of the bus for another three seconds.
          await pause(4500);
          return before === (await cluster.client().get(cluster.keys.head));
        });
        const log = await readLog(cluster.client());
        for (const [who, one] of watched.entries()) {
          one.viewer.socket.connect();
          const due = expected(one, log);
          await until(
            `viewer ${who} has what is due`,
            () => {
              const got = new Set(one.viewer.raw.map(({ sequence_id }) => sequence_id));
              return due.every((id) => got.has(id));
            },
            mode.flooded ? DUE_MS : undefined,
          ).catch((error) => {
            throw new Error(`${error.message}: ${explain(one, due, log)}`);
          });
          await one.viewer.sees("it is live", () => !one.ledger.replaying);
          const may = allowed(one, log);
          const isExact = (id: string) => due.includes(id) || !may.has(id);
          expect(one.viewer.log.filter(isExact), `viewer ${who}: ${explain(one, due, log)}`).to.deep.equal(
            due,
          );
          const got = one.viewer.raw.filter(({ priority }) => !mode.flooded || priority !== "CRITICAL");
          const ids = got.map(({ sequence_id }) => sequence_id);
          const once = new Set(ids);
          // What is CRITICAL may come before its turn, and again in its turn.
          const inOrder = one.viewer.log.filter((id) => once.has(id));
          expect(ids, `viewer ${who}, order and repeats`).to.deep.equal(inOrder);
          expect(one.ledger.skipped(due), `viewer ${who}`).to.equal(undefined);
          expect(one.ledger.miscounts, `viewer ${who}`).to.deep.equal([]);
          expect(one.viewer.connects.slice(1), `viewer ${who}, recovered`).to.not.include(false);
          expect(one.viewer.payloads("REPLAY_END").every(({ complete }) => complete)).to.equal(true);
        }
        const dropped = watched.reduce((sum, { ledger }) => sum + ledger.announced, 0);
        if (!mode.flooded) expect(dropped).to.equal(0);
        console.log(
          `      ${log.length} events, ${watched.reduce((sum, { viewer }) => sum + viewer.connects.length, 0)} connects, ${dropped} announced as dropped`,
        );
      } catch (error) {
        throw new Error(`seed ${seed}: ${(error as Error).message}\n${done.join("\n")}`, { cause: error });
      }
    });
  }
});
