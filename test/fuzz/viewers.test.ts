import { setTimeout as pause } from "node:timers/promises";
import { compareSequence, type Filters, matches, statuses } from "@agentwire/shared";
import { expect } from "chai";
import { type Cluster, startCluster, UNLIMITED } from "../harness/cluster.js";
import { type LogEntry, readLog } from "../harness/events-log.js";
import type { Viewer } from "../harness/viewer.js";
import { until } from "../harness/wait.js";
import { createRandom, type Random } from "./random.js";

const PROJECTS = ["p1", "p2", "p3"];
const RIGHTS: Record<string, string[]> = { anna: ["p1", "p2"], ben: ["p2", "p3"], cara: PROJECTS };
const NODES = 3;
const VIEWERS = 9;
const STEPS = Number(process.env.FUZZ_STEPS ?? 60);

/** A viewer, and which filters were in force after which event. */
interface Watched {
  viewer: Viewer;
  projects: string[];
  inForce: { after: string; filters: Filters }[];
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
  const now = (id: string) => inForce.filter(({ after }) => compareSequence(after, id) < 0).at(-1);
  return log.filter((entry) => wants(projects, now(entry.id)?.filters, entry)).map(({ id }) => id);
}

/**
 * What may come beside that: an event from before a change of filters that the new ones want. A client that comes back
 * with an offset from before the change is judged by the new filters from there on.
 */
function allowed({ projects, inForce }: Watched, log: LogEntry[]): Set<string> {
  const later = (id: string) => inForce.filter(({ after }) => compareSequence(after, id) >= 0);
  const may = log.filter((entry) => later(entry.id).some(({ filters }) => wants(projects, filters, entry)));
  return new Set(may.map(({ id }) => id));
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
function explain({ viewer, inForce }: Watched, due: string[], log: LogEntry[]): string {
  const extra = viewer.log.filter((id) => !due.includes(id));
  const [first = ""] = extra;
  const story = viewer.received.flatMap(({ event_type, payload }) =>
    event_type === "AGENT_STATUS_CHANGED" ? [] : [`${event_type} ${JSON.stringify(payload).slice(0, 300)}`],
  );
  const event = log.find(({ id }) => id === first)?.envelope;
  return [`extra ${extra.length}, first ${JSON.stringify(event)}`, JSON.stringify(inForce), ...story].join(
    "\n",
  );
}

/** Publishes without pause, through each way in, until it is stopped. */
function publishAll(cluster: Cluster, random: Random) {
  const worker = cluster.worker();
  const bus = cluster.client();
  let on = true;
  const loop = (async () => {
    while (on) {
      const change = {
        agent_id: `a${random.below(4)}`,
        project_id: random.pick(PROJECTS),
        new_status: random.pick(statuses),
      };
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
      await pause(random.below(8));
    }
  })();
  return async () => {
    on = false;
    await loop;
  };
}

describe("fuzz", () => {
  it("[D4][D5][D7][D11] whatever happens, each viewer's log in the end is what it had the right to see", async function () {
    this.timeout(60_000 + STEPS * 2000);
    const seed = Number(process.env.FUZZ_SEED ?? Date.now() % 1_000_000);
    console.log(`      seed ${seed} (FUZZ_SEED=${seed} repeats it)`);
    const random = createRandom(seed);
    const cluster = await startCluster({
      nodes: NODES,
      settings: { ...UNLIMITED, WS_MAX_REPLAY_MESSAGES: "100000" },
    });
    const done: string[] = [];

    const watched: Watched[] = [];
    for (let n = 0; n < VIEWERS; n++) {
      const [user, projects] = random.pick(Object.entries(RIGHTS));
      const viewer = await (await cluster.viewer({ on: (n % NODES) + 1, user, projects })).joined();
      watched.push({
        viewer,
        projects,
        inForce: [{ after: viewer.payloads("READY")[0]?.sequence_id as string, filters: all }],
      });
    }
    const stopPublishing = publishAll(cluster, createRandom(seed + 1));

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
        one.inForce.push({ after: answer.sequence_id as string, filters });
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
        await pause(1500);
        return before === (await cluster.client().get(cluster.keys.head));
      });
      const log = await readLog(cluster.client());
      for (const [who, one] of watched.entries()) {
        one.viewer.socket.connect();
        const due = expected(one, log);
        await one.viewer.has(due);
        await one.viewer.sees("it is live", (viewer) => {
          const last = viewer.received.findLastIndex(({ event_type }) => event_type === "REPLAY_START");
          return (
            viewer.received.slice(last + 1).some(({ event_type }) => event_type === "REPLAY_END") || last < 0
          );
        });
        const may = allowed(one, log);
        const got = one.viewer.raw.map(({ sequence_id }) => sequence_id);
        const exact = got.filter((id) => due.includes(id) || !may.has(id));
        expect(exact, `viewer ${who}: ${explain(one, due, log)}`).to.deep.equal(due);
        expect(got, `viewer ${who}, order and repeats`).to.deep.equal(one.viewer.log);
        expect(one.viewer.connects.slice(1), `viewer ${who}, recovered`).to.not.include(false);
        expect(one.viewer.payloads("REPLAY_END").every(({ complete }) => complete)).to.equal(true);
      }
      console.log(
        `      ${log.length} events, ${watched.reduce((sum, { viewer }) => sum + viewer.connects.length, 0)} connects`,
      );
    } catch (error) {
      throw new Error(`seed ${seed}: ${(error as Error).message}\n${done.join("\n")}`, { cause: error });
    }
  });
});
