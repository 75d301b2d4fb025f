import { type AgentwireClient, createClient } from "@agentwire/client";
import type { SequenceId } from "@agentwire/shared";
import { expect } from "chai";
import { type Cluster, startCluster } from "../harness/cluster.js";
import { startLoad } from "../harness/load.js";
import { needs } from "../harness/needs.js";
import { type Nginx, startNginx } from "../harness/nginx.js";
import { registryHas } from "../harness/registry.js";
import { onTeardown } from "../harness/teardown.js";
import { token } from "../harness/token.js";
import { Viewer } from "../harness/viewer.js";
import { until } from "../harness/wait.js";

const STOCK = 300;
const OURS = 300;
const PROJECTS = Array.from({ length: 200 }, (_, n) => `p${n}`);
const PER_SECOND = 1000;
const projectOf = (n: number): string => PROJECTS[n % PROJECTS.length] as string;

/** Stock clients as they come: what waits between two attempts is theirs. */
function openStock(nginx: Nginx): { viewer: Viewer; project: string; blackouts: number[] }[] {
  return Array.from({ length: STOCK }, (_, n) => {
    const project = projectOf(n);
    const socket = { reconnectionDelay: 1000, reconnectionDelayMax: 5000 };
    const viewer = new Viewer(nginx.url, { user: `stock-${n}`, projects: [project], socket });
    onTeardown(() => void viewer.socket.disconnect());
    const blackouts: number[] = [];
    let lostAt: number | undefined;
    viewer.socket.on("disconnect", () => {
      lostAt ??= performance.now();
    });
    viewer.socket.on("READY", () => {
      if (lostAt !== undefined) blackouts.push(performance.now() - lostAt);
      lostAt = undefined;
    });
    return { viewer, project, blackouts };
  });
}

interface Ours {
  client: AgentwireClient;
  project: string;
  ids: SequenceId[];
  /** How often it had no connection. */
  gaps: number;
}

function openOurs(nginx: Nginx): Ours[] {
  return Array.from({ length: OURS }, (_, n) => {
    const project = projectOf(n);
    const client = createClient({ urls: [nginx.url], token: token(`ours-${n}`, [project]) });
    onTeardown(() => client.close());
    const one: Ours = { client, project, ids: [], gaps: 0 };
    client.on("AGENT_STATUS_CHANGED", ({ sequence_id }) => one.ids.push(sequence_id as SequenceId));
    client.onState(({ name }) => {
      if (name === "connecting" || name === "waiting") one.gaps++;
    });
    return one;
  });
}

const quantile = (values: number[], q: number): number =>
  [...values].sort((a, b) => a - b)[Math.min(values.length - 1, Math.floor(values.length * q))] ?? 0;

/** Everybody is connected, and nothing is under way. */
const allBack = (stock: ReturnType<typeof openStock>, ours: Ours[]) =>
  until(
    "everybody is back",
    () =>
      stock.every(({ viewer }) => viewer.socket.connected && viewer.ready) &&
      ours.every(({ client }) => client.state.name === "live"),
    60_000,
  );

describe("a rolling restart behind nginx", () => {
  needs("REDIS");
  needs("NGINX");

  const ways: [string, (cluster: Cluster, n: number) => Promise<void>][] = [
    ["SIGTERM", (cluster, n) => cluster.node(n).stop()],
    ["kill -9", (cluster, n) => cluster.node(n).kill()],
  ];
  for (const [way, end] of ways) {
    it(`[D32][D7][D31] ${way}, 1,000 events/s, 300 stock clients and 300 of ours: none lost, none twice, all back`, async function () {
      this.timeout(300_000);
      const cluster = await startCluster({ nodes: 3 });
      const nginx = await startNginx(cluster.nodes.map(({ port }) => port));
      const stock = openStock(nginx);
      const ours = openOurs(nginx);
      await Promise.all(stock.map(({ viewer }) => viewer.joined()));
      await allBack(stock, ours);
      for (const one of ours) one.gaps = 0;
      const load = startLoad(cluster.worker(), { perSecond: PER_SECOND, projects: PROJECTS });
      await until("events flow", () => ours.every(({ ids }) => ids.length > 5));

      const took: number[] = [];
      for (const n of [1, 2, 3]) {
        const began = performance.now();
        await end(cluster, n);
        took.push(performance.now() - began);
        expect(cluster.node(n).exitCode).to.equal(way === "SIGTERM" ? 0 : null);
        expect(cluster.node(n).stderr).to.equal("");
        await allBack(stock, ours);
        cluster.node(n).log.length = 0;
        cluster.node(n).start();
        await cluster.node(n).ready();
      }
      const published = await load.stop();
      const due = new Map<string, SequenceId[]>(PROJECTS.map((project) => [project, []]));
      for (const { project_id, sequence_id } of published) due.get(project_id)?.push(sequence_id);

      for (const { viewer, project } of stock) {
        const ids = due.get(project) ?? [];
        await viewer.has(ids);
        expect(viewer.log.length).to.equal(ids.length);
        expect(viewer.payloads("REPLAY_END").every(({ complete }) => complete)).to.equal(true);
        expect(viewer.connects.slice(1).every(Boolean), "recovered").to.equal(true);
      }
      for (const { client, project, ids } of ours) {
        const wanted = new Set(due.get(project));
        await until("it has everything", () => ids.length >= wanted.size);
        expect(ids.length).to.equal(wanted.size);
        expect(ids.every((id) => wanted.has(id))).to.equal(true);
        expect(client.state.name).to.equal("live");
      }
      const blackouts = stock.flatMap((one) => one.blackouts);
      if (process.env.FIGURES)
        console.log(
          `      ${published.length} events; nodes ended in ${took.map((ms) => (ms / 1000).toFixed(1)).join(", ")} s; ` +
            `blackout of ${blackouts.length} stock reconnects: median ${quantile(blackouts, 0.5).toFixed(0)} ms, ` +
            `P99 ${quantile(blackouts, 0.99).toFixed(0)} ms, most ${quantile(blackouts, 1).toFixed(0)} ms; ` +
            `ours without a connection: ${ours.filter(({ gaps }) => gaps > 0).length}`,
        );
      if (way === "SIGTERM") for (const ms of took) expect(ms).to.be.below(30_000);
      await registryHas(cluster, () => [
        ...stock.map(({ viewer }) => viewer.connectionId),
        ...ours.map(({ client: { state } }) => (state.name === "live" ? state.connectionId : "")),
      ]);
    });
  }
});
