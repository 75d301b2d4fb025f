import type { PayloadOf } from "@agentwire/shared";
import { expect } from "chai";
import { type Cluster, startCluster } from "../harness/cluster.js";
import { needs } from "../harness/needs.js";
import { sharedPostgres } from "../harness/postgres.js";
import { until } from "../harness/wait.js";

/** What "within a second" may take on a machine that does other things, too. */
const SOON_MS = 5000;

describe("rights that change", () => {
  needs("POSTGRES");
  const postgres = sharedPostgres();

  const start = (settings: NodeJS.ProcessEnv = {}) =>
    startCluster({ nodes: 2, settings: { DATABASE_URL: postgres().url, ...settings } });
  const tell = ({ client, keys }: Cluster, user_id: string) =>
    client().publish(keys.accessChanged, JSON.stringify({ user_id }));
  const change = (project_id: string, message?: string) => ({
    agent_id: `a-${project_id}`,
    project_id,
    new_status: "working" as const,
    ...(message !== undefined && { message }),
  });
  const revoked = (payloads: PayloadOf<"ACCESS_REVOKED">[]) =>
    payloads.flatMap(({ project_ids }) => project_ids);

  it("[D25] a lost project: told within a second, nothing of it any more, rooms left; others go on", async () => {
    await postgres().members({ anna: ["p1", "p2"], ben: ["p1", "p2"] });
    const cluster = await start();
    const worker = cluster.worker();
    const everything = await (await cluster.viewer({ user: "anna", on: 1 })).joined();
    const filtered = await (
      await cluster.viewer({ user: "anna", on: 2, query: { project_ids: "p2" } })
    ).joined();
    const byAgent = await (
      await cluster.viewer({ user: "anna", on: 2, query: { agent_ids: "a-p2" } })
    ).joined();
    const ben = await (await cluster.viewer({ user: "ben", on: 2 })).joined();
    const all = [everything, filtered, byAgent];
    const first = await worker.agentStatus(change("p2"));
    await Promise.all([...all, ben].map((one) => one.has([first.sequence_id])));

    await postgres().members({ anna: ["p1"], ben: ["p1", "p2"] });
    await tell(cluster, "anna");
    const told = () => all.every((one) => one.payloads("ACCESS_REVOKED").length > 0);
    await until("each of hers is told", told, SOON_MS);
    for (const one of all) expect(revoked(one.payloads("ACCESS_REVOKED"))).to.deep.equal(["p2"]);

    const hidden = await worker.agentStatus(change("p2"));
    const seen = await worker.agentStatus(change("p1"));
    await ben.has([hidden.sequence_id, seen.sequence_id]);
    await everything.has([seen.sequence_id]);
    for (const one of all) expect(one.log).not.to.include(hidden.sequence_id);
    expect(ben.payloads("ACCESS_REVOKED")).to.deep.equal([]);
    expect((await everything.subscribe({ project_ids: ["p2"] })).error?.code).to.equal("FORBIDDEN");
    for (const one of all) expect(one.disconnects).to.equal(0);

    // And back: what is new is heard at once, by who wants it.
    await postgres().members({ anna: ["p1", "p2", "p3"], ben: [] });
    await tell(cluster, "anna");
    await until("p3 is heard", async () => {
      const { sequence_id } = await worker.agentStatus(change("p3"));
      const after = await worker.agentStatus(change("p1"));
      await everything.has([after.sequence_id]);
      return everything.log.includes(sequence_id);
    });
    const again = await worker.agentStatus(change("p2"));
    await Promise.all(all.map((one) => one.has([again.sequence_id])));
    expect(filtered.log).to.deep.equal([first.sequence_id, again.sequence_id]);
  });

  it("[D25] what waits for a connection when a right is lost is not sent", async () => {
    await postgres().members({ anna: ["p1", "p2"] });
    const cluster = await start({ WS_RATE_LIMIT_PER_CONNECTION: "10", WS_QUEUE_TTL: "60" });
    const viewer = await (await cluster.viewer({ user: "anna" })).joined();
    const worker = cluster.worker();
    for (let n = 0; n < 60; n++) await worker.agentStatus(change(n % 2 === 0 ? "p1" : "p2", String(n)));
    await postgres().members({ anna: ["p1"] });
    await tell(cluster, "anna");
    await viewer.sees("that it is told", () => viewer.payloads("ACCESS_REVOKED").length > 0);
    const at = viewer.received.findIndex(({ event_type }) => event_type === "ACCESS_REVOKED");
    const before = viewer.raw.filter(({ payload }) => payload.project_id === "p2").length;
    expect(before).to.be.below(30);
    await viewer.sees(
      "all of p1",
      () => viewer.raw.filter(({ payload }) => payload.project_id === "p1").length === 30,
    );
    const after = viewer.received
      .slice(at)
      .map(({ payload }) => (payload as { project_id?: string }).project_id);
    expect(after).not.to.include("p2");
  });

  it("[D25] a right that was lost while the connection was away: nothing of it when it resumes", async () => {
    await postgres().members({ anna: ["p1", "p2"] });
    const cluster = await start();
    const viewer = await (await cluster.viewer({ user: "anna" })).joined();
    const worker = cluster.worker();
    const seen = await worker.agentStatus(change("p2"));
    await viewer.has([seen.sequence_id]);
    viewer.socket.disconnect();
    const hidden = await worker.agentStatus(change("p2"));
    const missed = await worker.agentStatus(change("p1"));
    await postgres().members({ anna: ["p1"] });
    viewer.socket.connect();
    await viewer.has([missed.sequence_id]);
    expect(viewer.log).to.deep.equal([seen.sequence_id, missed.sequence_id]);
    expect(viewer.log).not.to.include(hidden.sequence_id);
    expect(viewer.connects).to.deep.equal([false, true]);
  });

  it("[D25] while the database is away the last answer counts; it is asked again as soon as it is back", async () => {
    await postgres().members({ anna: ["p1", "p2"] });
    const cluster = await start();
    const viewer = await (await cluster.viewer({ user: "anna" })).joined();
    await postgres().members({ anna: ["p1"] });
    await postgres().stop();
    await tell(cluster, "anna");
    await until("the node has tried", () =>
      cluster.nodes.some(({ log }) => log.some(({ msg }) => msg === "rights could not be read again")),
    );
    const worker = cluster.worker();
    const { sequence_id } = await worker.agentStatus(change("p2"));
    await viewer.has([sequence_id]);
    expect(viewer.payloads("ACCESS_REVOKED")).to.deep.equal([]);
    await postgres().restart();
    await viewer.sees("that it is told", () => viewer.payloads("ACCESS_REVOKED").length > 0);
    const hidden = await worker.agentStatus(change("p2"));
    const last = await worker.agentStatus(change("p1"));
    await viewer.has([last.sequence_id]);
    expect(viewer.log).not.to.include(hidden.sequence_id);
  });

  it("[D25] a notice that is missed while Redis is away is made up for; a bad one is one log line", async () => {
    await postgres().members({ anna: ["p1", "p2"] });
    const cluster = await start();
    const viewer = await (await cluster.viewer({ user: "anna" })).joined();
    for (const bad of ["", "anna", "null", "{}", '{"user_id":7}'])
      await cluster.client().publish(cluster.keys.accessChanged, bad);
    const bad = () => cluster.node(1).log.filter(({ msg }) => msg === "notice not understood");
    await until("a line for each", () => bad().length === 5);
    await cluster.redis.kill();
    await postgres().members({ anna: ["p1"] });
    await cluster.redis.restart();
    await viewer.sees("that it is told", () => viewer.payloads("ACCESS_REVOKED").length > 0);
    expect(revoked(viewer.payloads("ACCESS_REVOKED"))).to.deep.equal(["p2"]);
  });
});
