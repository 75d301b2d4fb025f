import type { SequenceId } from "@agentwire/shared";
import { expect } from "chai";
import { residentBytes } from "../../bench/memory.js";
import { type Cluster, startCluster } from "../harness/cluster.js";
import { openCrowd } from "../harness/crowd.js";
import { startLoad } from "../harness/load.js";
import { onTeardown } from "../harness/teardown.js";
import { token } from "../harness/token.js";
import { until } from "../harness/wait.js";

const CLIENTS = 2000;
const PER_USER = 5;
const USERS = CLIENTS / PER_USER;
const PROJECTS = 100;
const MIB = 1_048_576;
/** What the nodes may hold at most; they hold about 150 MiB each with nobody in a hurry. */
const MOST_MIB = 768;
/** Half of that is promised; the machine of a test may be busy. */
const MOST_MS = 60_000;

const user = (n: number) => `user-${n}`;
const project = (n: number) => `p${n % PROJECTS}`;

/** Looks again and again at what must hold all the time: the most places, in all and of one user, and the most memory. */
function watch({ client, keys }: Cluster, pids: number[]) {
  const most = { places: 0, ofUser: 0, bytes: 0, looks: 0 };
  const redis = client();
  const look = async () => {
    const now = `(${Date.now()}`;
    const counts = redis.pipeline().zcount(keys.leases, now, "+inf");
    for (let n = 0; n < USERS; n++) counts.zcount(keys.userConnections(user(n)), now, "+inf");
    const [all = 0, ...ofUsers] = ((await counts.exec()) ?? []).map(([, count]) => count as number);
    most.places = Math.max(most.places, all);
    most.ofUser = Math.max(most.ofUser, ...ofUsers);
    if (process.platform === "linux")
      most.bytes = Math.max(most.bytes, ...pids.map((pid) => residentBytes([pid])));
    most.looks++;
  };
  let on = true;
  const looking = (async () => {
    while (on) await Promise.all([look(), new Promise((resolve) => setTimeout(resolve, 200))]);
  })();
  const stop = async () => {
    on = false;
    await looking;
    return most;
  };
  onTeardown(async () => void (await stop()));
  return stop;
}

describe("a reconnect storm", () => {
  it(`[D7][D23] kill -9 of a node with ${CLIENTS} viewers, each user with as many as it may have: all are back within 30 s, each log is complete, and no limit is passed`, async function () {
    this.timeout(180_000);
    const cluster = await startCluster({ nodes: 3, settings: { WS_MAX_CONNECTIONS_PER_USER: "" } });
    const [one, two, three] = cluster.nodes.map(({ url }) => url) as [string, string, string];
    const tokens = Array.from({ length: USERS }, (_, n) => token(user(n), [project(n)]));
    const crowd = await openCrowd(
      Array.from({ length: CLIENTS }, (_, n) => ({
        token: tokens[n % USERS] as string,
        project: project(n % USERS),
        url: one,
        // A load balancer that knows which nodes live.
        back: n % 2 === 0 ? [two, three] : [three, two],
      })),
      2,
    );
    const load = startLoad(cluster.worker(), {
      perSecond: 200,
      projects: Array.from({ length: PROJECTS }, (_, n) => project(n)),
    });
    await until("events flow", () => load.published.length > 400);
    const survivors = cluster.nodes.slice(1);
    const stopWatching = watch(
      cluster,
      survivors.map(({ pid }) => pid),
    );

    await cluster.node(1).kill();
    const killed = Date.now();
    const standing = await until(
      "all are back",
      async () => {
        const now = await crowd.standing();
        return now.joined === CLIENTS && now.connects.every((count) => count > 1) && now;
      },
      MOST_MS,
    );
    const flowed = load.published.length;
    await until("events flow on", () => load.published.length > flowed + 400);
    const published = new Map<string, SequenceId[]>();
    for (const { project_id, sequence_id } of await load.stop())
      published.set(project_id, [...(published.get(project_id) ?? []), sequence_id]);
    const result = await crowd.result(published, 10_000);
    const most = await stopWatching();

    const seconds = (standing.lastComplete - killed) / 1000;
    console.log(
      `      all back and complete after ${seconds.toFixed(1)} s; at most ${most.places} places, ` +
        `${(most.bytes / MIB).toFixed(0)} MiB in a node; refused on the way: ${JSON.stringify(result.refusals)}`,
    );
    expect(result).to.include({ joined: CLIENTS, incomplete: 0, missing: 0, doubled: 0, foreign: 0 });
    expect(result.losses).to.deep.equal([]);
    expect(result.recovered).to.equal(CLIENTS);
    expect(most.looks).to.be.above(5);
    expect(most.places).to.be.at.most(CLIENTS);
    expect(most.ofUser).to.be.at.most(PER_USER);
    expect(most.bytes / MIB).to.be.below(MOST_MIB);
    for (const node of survivors) expect([node.alive, node.stderr]).to.deep.equal([true, ""]);
  });
});
