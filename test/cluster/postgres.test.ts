import { SEQUENCE_START, type SequenceId } from "@agentwire/shared";
import { expect } from "chai";
import WebSocket from "ws";
import { type Cluster, type ClusterOptions, startCluster } from "../harness/cluster.js";
import { needs } from "../harness/needs.js";
import { sharedPostgres } from "../harness/postgres.js";
import { keepBeyondTest, onTeardown } from "../harness/teardown.js";
import { token } from "../harness/token.js";
import { until } from "../harness/wait.js";

/** Two seconds are promised, and this machine has other work. */
const MOST_MS = 4000;

interface Answer {
  status: number;
  retryAfter: string | null;
  body: string;
}

/** A handshake by hand. The token's own list of projects is as large as its owner could wish. */
async function knock(
  cluster: Cluster,
  user: string,
  { on = 1, transport = "polling", query = "" } = {},
): Promise<Answer> {
  const who = token(user, ["p-anna", "p-ben"]);
  const path = `/socket.io/?EIO=4&transport=${transport}&token=${who}${query}`;
  const url = cluster.node(on).url + path;
  if (transport === "polling") {
    const answer = await fetch(url);
    const retryAfter = answer.headers.get("retry-after");
    return { status: answer.status, retryAfter, body: await answer.text() };
  }
  const socket = new WebSocket(url);
  return new Promise((resolve, reject) => {
    socket.on("open", () => {
      socket.terminate();
      resolve({ status: 101, retryAfter: null, body: "" });
    });
    socket.on("error", reject).on("unexpected-response", async (_req, answer) => {
      const body = Buffer.concat(await answer.toArray()).toString();
      resolve({ status: answer.statusCode ?? 0, retryAfter: answer.headers["retry-after"] ?? null, body });
    });
  });
}

const expectUnavailable = ({ status, retryAfter, body }: Answer): void => {
  expect(status).to.equal(503);
  expect(retryAfter).to.match(/^[1-9]\d*$/);
  expect(JSON.parse(body).error).to.include({ code: "UNAVAILABLE", retry: "later" });
};

describe("rights from Postgres", () => {
  needs("POSTGRES");
  needs("REDIS");
  const database = sharedPostgres();
  const start = ({ settings, ...options }: ClusterOptions) =>
    startCluster({ ...options, settings: { DATABASE_URL: database().url, ...settings } });
  let shared: { value: Cluster; undo(): Promise<void> } | undefined;
  before("start the cluster", async () => {
    shared = await keepBeyondTest(() => start({ nodes: 2 }));
  });
  after("stop the cluster", () => shared?.undo());
  const cluster = (): Cluster => shared?.value as Cluster;

  beforeEach(() => database().members({ anna: ["p-anna"], ben: ["p-ben"] }));
  afterEach(() => database().resume());

  const publish = async (...of: string[]): Promise<SequenceId[]> => {
    const worker = cluster().worker();
    const ids: SequenceId[] = [];
    for (const who of of) {
      const change = { agent_id: `a-${who}`, project_id: `p-${who}`, new_status: "working" as const };
      ids.push((await worker.agentStatus(change)).sequence_id);
    }
    return ids;
  };
  /** A viewer whose token claims every project. */
  const viewer = (user: string, on: number, query: Record<string, string> = {}) =>
    cluster().viewer({ user, on, projects: ["p-anna", "p-ben", "p-carl"], query });

  describe("who may see what", () => {
    it("[D11] each sees what the policies say, live and in the snapshot, and nothing for the token's word", async () => {
      await publish("anna", "ben");
      const anna = await (await viewer("anna", 1)).joined();
      const ben = await (await viewer("ben", 2)).joined();
      const carl = await (await viewer("carl", 1)).joined();
      const [first, second, third, last] = await publish("ben", "anna", "ben", "anna");
      await anna.has([last as SequenceId]);
      await ben.has([third as SequenceId]);
      expect(anna.log).to.deep.equal([second, last]);
      expect(ben.log).to.deep.equal([first, third]);
      expect(carl.log).to.deep.equal([]);
      for (const [one, agents] of [
        [anna, ["a-anna"]],
        [ben, ["a-ben"]],
        [carl, []],
      ] as const) {
        const seen = one.payloads("SNAPSHOT").flatMap((snapshot) => snapshot.agents);
        expect(seen.map(({ agent_id }) => agent_id)).to.deep.equal(agents);
      }
    });

    for (const transport of ["polling", "websocket"]) {
      it(`[D11][D12] ${transport}: a foreign project and an unknown one are refused in the same words`, async () => {
        const of = (id: string) => knock(cluster(), "anna", { transport, query: `&project_ids=${id}` });
        const foreign = await of("p-ben");
        expect(foreign.status).to.equal(403);
        expect(JSON.parse(foreign.body).error.code).to.equal("FORBIDDEN");
        expect(await of("nowhere")).to.deep.equal(foreign);
        expect(await of("p-anna,nowhere")).to.deep.equal(foreign);
        expect((await of("p-anna")).status).to.be.oneOf([101, 200]);
      });
    }

    it("[D11] a replay holds what the policies let one see now", async () => {
      const from = SEQUENCE_START;
      const ids = await publish("ben", "anna", "ben", "anna");
      await database().members({ anna: ["p-ben"] });
      const anna = await viewer("anna", 1, { last_sequence_id: from });
      await anna.has([ids[0], ids[2]] as SequenceId[]);
      await anna.sees("the end of the replay", () => anna.payloads("REPLAY_END").length > 0);
      expect(new Set(anna.raw.map(({ payload }) => payload.project_id))).to.deep.equal(new Set(["p-ben"]));
    });

    it("[D11] a policy that is changed in SQL counts for the next connection, on every node", async () => {
      const who = { query: "&project_ids=p-ben" };
      for (const on of [1, 2]) expect((await knock(cluster(), "anna", { ...who, on })).status).to.equal(403);
      onTeardown(async () => void (await database().query("drop policy anna on projects")));
      await database().query(
        "create policy anna on projects for select to authenticated using (auth.uid() = 'anna' and id = 'p-ben')",
      );
      for (const on of [1, 2]) expect((await knock(cluster(), "anna", { ...who, on })).status).to.equal(200);
      const anna = await (await viewer("anna", 1)).joined();
      const ids = await publish("anna", "ben");
      await anna.has(ids);
      expect((await knock(cluster(), "carl", who)).status).to.equal(403);
    });
  });

  describe("a database in trouble", () => {
    /** Both transports, both nodes, and more than there are connections to the database. */
    const nobodyComesIn = async (on = [1, 2]): Promise<void> => {
      const began = performance.now();
      const asked = on.flatMap((node) =>
        ["polling", "websocket"].flatMap((transport) =>
          Array.from({ length: 5 }, (_, n) => knock(cluster(), `user-${n}`, { on: node, transport })),
        ),
      );
      for (const answer of await Promise.all(asked)) expectUnavailable(answer);
      expect(performance.now() - began).to.be.below(MOST_MS);
    };
    const somebodyComesIn = () =>
      until("somebody comes in", async () => {
        const answers = await Promise.all([1, 2].map((on) => knock(cluster(), "anna", { on })));
        return answers.every(({ status }) => status === 200);
      });

    for (const [what, { hurt, heal }] of Object.entries({
      "is stopped": { hurt: () => database().stop(), heal: () => database().restart() },
      "is killed": { hurt: () => database().kill(), heal: () => database().restart() },
      hangs: { hurt: () => database().pause(), heal: () => database().resume() },
      "has not the table": {
        hurt: () => database().query("alter table projects rename to gone"),
        heal: () => database().query("alter table gone rename to projects"),
      },
    })) {
      it(`[D12] it ${what}: 503 for whoever comes, who is in stays and hears; then it heals by itself`, async () => {
        const anna = await (await viewer("anna", 1)).joined();
        const ben = await (await viewer("ben", 2)).joined();
        await hurt();
        const ids = await publish("anna", "ben");
        await nobodyComesIn();
        ids.push(...(await publish("anna", "ben")));
        await anna.has([ids[0], ids[2]] as SequenceId[]);
        await ben.has([ids[1], ids[3]] as SequenceId[]);
        await heal();
        await somebodyComesIn();
        for (const [one, own] of [
          [anna, [ids[0], ids[2]]],
          [ben, [ids[1], ids[3]]],
        ] as const) {
          expect(one.log).to.deep.equal(own);
          expect({ lost: one.disconnects, came: one.connects.length }).to.deep.equal({ lost: 0, came: 1 });
        }
        for (const node of cluster().nodes) expect(node.stderr).to.equal("");
      });
    }

    it("[D12] who was cut off cannot come back before it heals, and then resumes", async () => {
      const anna = await (await viewer("anna", 1)).joined();
      const seen = await publish("anna");
      await anna.has(seen);
      database().pause();
      (await cluster().front(1)).cut();
      await anna.sees("it is refused", () => anna.errors.length > 0);
      const ids = await publish("ben", "anna", "ben");
      expect(anna.log).to.deep.equal(seen);
      database().resume();
      await anna.has([ids[1] as SequenceId]);
      expect(anna.connects).to.deep.equal([false, true]);
      expect(anna.log).to.deep.equal([...seen, ids[1]]);
    });

    it("[D12] it is not there when the node starts: 503 until it is", async () => {
      await database().stop();
      const late = await start({ nodes: 1 });
      expectUnavailable(await knock(late, "anna"));
      expectUnavailable(await knock(late, "anna", { transport: "websocket" }));
      await database().restart();
      await until("somebody comes in", async () => (await knock(late, "anna")).status === 200);
      const foreign = await knock(late, "anna", { query: "&project_ids=p-ben" });
      expect(foreign.status).to.equal(403);
      await late.stopCleanly();
    });

    it("[D12] a slow query: 503 for its user and whoever waits behind it, and not for the others", async () => {
      const slow = await start({
        nodes: 1,
        settings: {
          DATABASE_PROJECTS_QUERY: "select id from projects, pg_sleep(9 * (auth.uid() like 'slow%')::int)",
          DATABASE_POOL_SIZE: "2",
        },
      });
      const one = knock(slow, "slow-1");
      expect((await knock(slow, "anna", { query: "&project_ids=p-anna" })).status).to.equal(200);
      expectUnavailable(await one);
      // Now every connection is taken, and there is a queue for them.
      const many = Array.from({ length: 8 }, (_, n) => knock(slow, `slow-${n}`));
      const began = performance.now();
      for (const answer of await Promise.all(many)) expectUnavailable(answer);
      expect(performance.now() - began).to.be.below(MOST_MS);
      expect((await knock(slow, "anna", { query: "&project_ids=p-anna" })).status).to.equal(200);
    });

    it("[D17] a node can be stopped while the database hangs", async () => {
      const own = await start({ nodes: 1 });
      await (await own.viewer({ user: "anna" })).joined();
      database().pause();
      const waiting = knock(own, "ben").catch(() => undefined);
      await own.stopCleanly();
      const answer = await waiting;
      if (answer) expect(answer.status).to.equal(503);
    });
  });
});
