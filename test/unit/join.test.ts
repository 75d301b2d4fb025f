import { type Envelope, type EventType, type Filters, filterable, stamp } from "@agentwire/shared";
import { expect } from "chai";
import { Connection, type Exit, type Outgoing } from "../../server/src/node/connection.js";
import { createJoin, type History, type JoinSources } from "../../server/src/node/join.js";
import { takeSubscription } from "../../server/src/node/subscribe.js";
import { until } from "../harness/wait.js";

/** The gate's side. */
const exitTo = (exit: Partial<Exit>): Exit => ({
  open: true,
  waiting: 0,
  send: () => true,
  overtake: () => {},
  replay: () => {},
  refill: () => {},
  miss: () => {},
  announceMissed: () => {},
  say: () => {},
  drained: async () => {},
  onBehind: () => {},
  withdraw: () => {},
  onStale: () => {},
  show: () => {},
  ...exit,
});

/** Nothing is refilled here. */
const missedNext = () => Promise.reject(new Error("not asked for"));

const all: Filters = { agent_ids: [], project_ids: [], event_types: [] };

function event(sequence_id: string, agent_id: string): Outgoing & { envelope: Envelope } {
  const payload = { agent_id, project_id: "p1", old_status: null, new_status: "working" as const };
  const envelope = { ...stamp("AGENT_STATUS_CHANGED", `e-${sequence_id}`, payload), sequence_id };
  return { envelope, about: filterable(envelope), urgent: false };
}

/** A log in memory, whose reads wait until the test lets them go on. */
function crankedSources(log: ReturnType<typeof event>[]) {
  const waiting: (() => void)[] = [];
  const crank = () => new Promise<void>((resolve) => waiting.push(resolve));
  const after = (id: string) => log.filter(({ envelope }) => (envelope.sequence_id as string) > id);
  const sources: JoinSources = {
    missedNext,
    async missedBy(_user, _projects, position): Promise<History> {
      const missed = after(position).map(({ envelope }) => ({
        id: envelope.sequence_id as string,
        event_type: envelope.event_type,
        agent_id: (envelope.payload as { agent_id: string }).agent_id,
        project_id: "p1",
      }));
      await crank();
      return { epoch: "now", missed, to: missed.at(-1)?.id ?? position };
    },
    async read(ids) {
      await crank();
      return ids.map((id) => log.find(({ envelope }) => envelope.sequence_id === id));
    },
    agents: async () => [],
    agentsOfProjects: async () => [],
  };
  return { sources, waiting, letGo: () => waiting.shift()?.() };
}

function begin(filters: Filters, log: ReturnType<typeof event>[]) {
  const sent: string[] = [];
  const said: EventType[] = [];
  const exit = exitTo({
    replay: ({ envelope }) => sent.push(envelope.sequence_id as string),
    say: (type) => said.push(type),
  });
  const cranked = crankedSources(log);
  const connection = new Connection("c1", "anna", new Set(["p1"]), filters, "now", "10-0", exit);
  const join = createJoin({
    ended: () => {},
    sources: cranked.sources,
    outgoing: (envelope) => ({ envelope, about: filterable(envelope), urgent: false }),
    joined: () => {},
    handledUpTo: () => "9999-0",
    failed: (_connection, error) => {
      throw error;
    },
  });
  const subscribe = (wanted: Partial<Filters>) =>
    new Promise<{ sequence_id?: string }>((resolve) => {
      const subscriber = {
        connection,
        maxFilterIds: 50,
        limit: { take: () => true },
        refilter: (filters: Filters) => {
          connection.filters = filters;
          connection.fallBehind(connection.position);
          return connection.position;
        },
        save: async () => {},
      };
      void takeSubscription(wanted, (answer) => resolve(answer.ok ? answer : {}), subscriber);
    });
  return { sent, said, connection, done: join(connection, { name: "resume" }), subscribe, ...cranked };
}

describe("join", () => {
  it("[D8] a loss is not forgotten when Redis fails on the way: it is told, and the snapshot comes", async () => {
    const said: [EventType, object][] = [];
    const exit = exitTo({ say: (...one) => said.push(one) });
    const connection = new Connection("c1", "anna", new Set(["p1"]), all, "old", "10-0", exit);
    const failures = { missedBy: 1, agentsOfProjects: 1 };
    const failFirst = (name: keyof typeof failures) => {
      if (failures[name]-- > 0) throw new Error("Redis is away");
    };
    const join = createJoin({
      ended: () => {},
      sources: {
        missedNext,
        missedBy: async (_user, _projects, to) => {
          failFirst("missedBy");
          return { epoch: "new", missed: [], to };
        },
        agentsOfProjects: async () => {
          failFirst("agentsOfProjects");
          return [];
        },
        agents: async () => [],
        read: async () => [],
      },
      outgoing: (envelope) => ({ envelope, about: filterable(envelope), urgent: false }),
      joined: () => {},
      handledUpTo: () => "9999-0",
      failed: () => {},
    });
    await join(connection, {
      name: "resume",
      known: { epoch: "new", missed: [], to: "3-0", loss: "history_lost" },
    });
    expect(said).to.deep.equal([
      ["REPLAY_START", { from: "10-0" }],
      ["REPLAY_END", { to: "3-0", count: 0, complete: false, reason: "history_lost" }],
      ["SNAPSHOT", { agents: [], sequence_id: "3-0" }],
    ]);
  });

  it("[D7] viewers that do not take what they are sent keep nobody else from joining", async () => {
    const never = new Promise<void>(() => {});
    const joined: string[] = [];
    const join = createJoin({
      ended: () => {},
      sources: {
        missedNext,
        missedBy: async (_user, _projects, to) => ({ epoch: "now", missed: [], to }),
        agentsOfProjects: async () => [],
        agents: async () => [],
        read: async (ids) => ids.map((id) => event(id, "a1")),
      },
      outgoing: (envelope) => ({ envelope, about: filterable(envelope), urgent: false }),
      joined: ({ id }) => joined.push(id),
      handledUpTo: () => "9999-0",
      failed: () => {},
    });
    const missed = [{ id: "11-0", event_type: "AGENT_STATUS_CHANGED", agent_id: "a1", project_id: "p1" }];
    const begin = (id: string, drained: () => Promise<void>) => {
      const exit = exitTo({ drained });
      const connection = new Connection(id, "anna", new Set(["p1"]), all, "now", "10-0", exit);
      return join(connection, { name: "resume", known: { epoch: "now", missed, to: "11-0" } });
    };
    for (let n = 0; n < 100; n++) void begin(`deaf-${n}`, () => never);
    await begin("good", async () => {});
    expect(joined).to.deep.equal(["good"]);
  });

  it("[D4] a SUBSCRIBE while payloads are read counts for everything that was not sent yet", async () => {
    const log = [event("11-0", "a1"), event("12-0", "a2"), event("13-0", "a1")];
    const { sent, letGo, waiting, subscribe, done } = begin({ ...all, agent_ids: ["a1"] }, log);
    await until("the index is read", () => waiting.length === 1);
    letGo();
    await until("payloads are read", () => waiting.length === 1);
    expect((await subscribe({ agent_ids: ["a2"] })).sequence_id).to.equal("10-0");
    while (!(await Promise.race([done.then(() => true), new Promise((go) => setImmediate(go, false))])))
      letGo();
    expect(sent).to.deep.equal(["12-0"]);
  });

  it("[D4] an event of a room that SUBSCRIBE added after the last read of a join is not lost", async () => {
    const log = [event("11-0", "a1")];
    const { sent, letGo, waiting, subscribe, done } = begin({ ...all, agent_ids: ["a1"] }, log);
    await until("the index is read", () => waiting.length === 1);
    // Published after that read, and not heard: the connection was not in the room of a2 yet.
    log.push(event("12-0", "a2"));
    const { sequence_id } = await subscribe({ agent_ids: ["a1", "a2"] });
    expect(sequence_id).to.equal("10-0");
    while (!(await Promise.race([done.then(() => true), new Promise((go) => setImmediate(go, false))])))
      letGo();
    expect(sent).to.deep.equal(["11-0", "12-0"]);
  });
});
