import { compareSequence } from "@agentwire/shared";
import { expect } from "chai";
import { type Cluster, startCluster, UNLIMITED } from "../harness/cluster.js";
import { startLoad } from "../harness/load.js";
import { until } from "../harness/wait.js";

/** Stops node 1 until the log has been trimmed beyond everything it has read. */
async function pauseBeyondTheLog(
  cluster: Cluster,
  flowing: { published: { sequence_id: string }[] },
): Promise<void> {
  const client = cluster.client();
  const last = flowing.published.at(-1)?.sequence_id as string;
  cluster.node(1).pause();
  await until("the log no longer reaches back to where the node stands", async () => {
    const [oldest] = await client.xrange(cluster.keys.events, "-", "+", "COUNT", 1);
    return oldest && compareSequence(oldest[0], last) > 0;
  });
  cluster.node(1).resume();
}

describe("a paused node", () => {
  it("[D9][D8] paused for longer than the log is kept: its viewers get what is left and are told, never a silent hole", async () => {
    const cluster = await startCluster({
      nodes: 2,
      settings: { ...UNLIMITED, WS_REPLAY_WINDOW_SECONDS: "2" },
    });
    const viewer = await (await cluster.viewer({ on: 1 })).joined();
    const load = startLoad(cluster.worker(), { perSecond: 200 });
    await viewer.sees("events flow", ({ raw }) => raw.length > 50);
    await pauseBeyondTheLog(cluster, load);

    await viewer.sees("the end of a refill", () => viewer.payloads("REPLAY_END").length > 0);
    const published = (await load.stop()).map(({ sequence_id }) => sequence_id);
    const last = published.sort(compareSequence).at(-1) as string;
    await viewer.has([last]);

    const [{ from } = { from: "" }] = viewer.payloads("REPLAY_START");
    const [end] = viewer.payloads("REPLAY_END");
    expect(end).to.include({ complete: false, reason: "window_exceeded" });
    expect(viewer.payloads("SNAPSHOT")).to.have.length(2);
    expect(viewer.connects).to.deep.equal([false]);
    // The hole is exactly between what was live before and the first replayed event, and nowhere else.
    const log = new Set(viewer.log);
    const missing = published.filter((id) => !log.has(id));
    expect(missing.length).to.be.greaterThan(0);
    const firstReplayed = viewer.log.find((id) => compareSequence(id, from) > 0) as string;
    for (const id of missing) {
      expect(compareSequence(id, from)).to.be.greaterThan(0);
      expect(compareSequence(id, firstReplayed)).to.be.lessThan(0);
    }
  });

  it("[D9] paused for less than that: everything comes, in order", async () => {
    const cluster = await startCluster({ nodes: 2, settings: UNLIMITED });
    const viewer = await (await cluster.viewer({ on: 1 })).joined();
    const load = startLoad(cluster.worker(), { perSecond: 200 });
    await viewer.sees("events flow", ({ raw }) => raw.length > 50);
    const before = load.published.length;
    cluster.node(1).pause();
    await until("600 events pass the paused node", () => load.published.length > before + 600);
    cluster.node(1).resume();
    const published = (await load.stop()).map(({ sequence_id }) => sequence_id);
    await viewer.has(published);
    expect(viewer.raw.map(({ sequence_id }) => sequence_id)).to.deep.equal(published.sort(compareSequence));
    expect(viewer.payloads("REPLAY_END").every(({ complete }) => complete)).to.equal(true);
  });

  it("[D9] a stream cut short behind a paused node's back: refilled from the replay index where it can be", async () => {
    const cluster = await startCluster({ nodes: 2, settings: UNLIMITED });
    const client = cluster.client();
    const viewer = await (await cluster.viewer({ on: 1 })).joined();
    const worker = cluster.worker();
    const publish = async (n: number) =>
      (await worker.agentStatus({ agent_id: "a1", project_id: "p1", new_status: "working", message: `${n}` }))
        .sequence_id;
    const ids = [await publish(0)];
    await viewer.has(ids);
    cluster.node(1).pause();
    for (let n = 1; n <= 10; n++) ids.push(await publish(n));
    // The node's reader will start at what is left, without an error: only `prev` tells.
    await client.xtrim(cluster.keys.events, "MINID", ids[6] as string);
    cluster.node(1).resume();
    await viewer.sees("the end of a refill", () => viewer.payloads("REPLAY_END").length > 0);
    // The answer that its blocked read was waiting for still reached it: one event more, or several.
    const missing = ids.filter((id) => !viewer.log.includes(id));
    expect(missing.length).to.be.greaterThan(0);
    expect(missing).to.deep.equal(ids.slice(6 - missing.length, 6));
    expect(viewer.payloads("REPLAY_END")[0]).to.include({ complete: false, reason: "trimmed", count: 5 });
  });

  it("[D9] a reader that is deaf: the node sees that it is behind the head, and refills", async () => {
    const cluster = await startCluster({ nodes: 1, settings: UNLIMITED });
    const viewer = await (await cluster.viewer()).joined();
    const worker = cluster.worker();
    const client = cluster.client();
    // The reader's connection is killed, and what it reads with is refused to it from then on.
    await client.call("ACL", "SETUSER", "default", "-xread");
    const reader = /^id=(\d+) .* cmd=xread /m.exec(String(await client.client("LIST")));
    await client.client("KILL", "ID", reader?.[1] as string);
    const { sequence_id } = await worker.agentStatus({
      agent_id: "a1",
      project_id: "p1",
      new_status: "working",
    });
    await viewer.has([sequence_id]);
    await viewer.sees("the end of its refill", () => viewer.payloads("REPLAY_END").length > 0);
    expect(viewer.payloads("REPLAY_END").at(-1)).to.include({ complete: true });
    expect(viewer.connects).to.deep.equal([false]);
  });
});
