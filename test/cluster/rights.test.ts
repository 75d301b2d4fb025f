import { SEQUENCE_START } from "@agentwire/shared";
import { expect } from "chai";
import { sharedCluster } from "../harness/cluster.js";
import { token } from "../harness/token.js";
import type { Viewer } from "../harness/viewer.js";

/** Anna may see project p-anna with the agent a-anna, Ben p-ben with a-ben; each hangs on another node. */
const anna = { user: "anna", projects: ["p-anna"], on: 1 };
const ben = { user: "ben", projects: ["p-ben"], on: 2 };

const projectsOf = (viewer: Viewer): string[] => [
  ...new Set([
    ...viewer.raw.map(({ payload }) => payload.project_id),
    ...viewer.payloads("SNAPSHOT").flatMap(({ agents }) => agents.map(({ project_id }) => project_id)),
  ]),
];

/** What a stock client resumes with; another client with it is whoever copied it. */
const secretsOf = ({ socket }: Viewer) => {
  const { _pid, _lastOffset } = socket as unknown as { _pid: string; _lastOffset: string };
  expect(_pid).to.be.a("string");
  return { _pid, _lastOffset };
};

describe("rights", () => {
  const cluster = sharedCluster({ nodes: 2 });

  /** One event of each project. Whoever has the last one would have had those before it. */
  const publish = async (...of: ("anna" | "ben")[]) => {
    const emitter = cluster().worker();
    const ids: string[] = [];
    for (const who of of) {
      const change = { agent_id: `a-${who}`, project_id: `p-${who}`, new_status: "working" as const };
      ids.push((await emitter.agentStatus(change)).sequence_id);
    }
    return ids;
  };

  /** The id of the log's last event: what is published from here on comes after it. */
  const head = async () => (await cluster().client().get(cluster().keys.head)) ?? SEQUENCE_START;

  it("[D11] live: each sees its own project, also when it asks for the other one's agent", async () => {
    const { viewer } = cluster();
    const viewers = await Promise.all(
      [anna, ben].flatMap((who) => [
        viewer(who),
        viewer({ ...who, on: 3 - who.on }),
        viewer({ ...who, query: { agent_ids: "a-anna,a-ben" } }),
      ]),
    );
    await Promise.all(viewers.map((one) => one.joined()));
    // Before each one's second event lies one of the other's.
    const ids = await publish("ben", "anna", "ben", "anna");
    for (const [n, one] of viewers.entries()) {
      const own =
        n < 3 ? { project: "p-anna", ids: [ids[1], ids[3]] } : { project: "p-ben", ids: [ids[0], ids[2]] };
      await one.has(own.ids as string[]);
      expect(one.log).to.deep.equal(own.ids);
      expect(projectsOf(one)).to.deep.equal([own.project]);
    }
  });

  it("[D11] a filter for nothing but the other one's agent brings nothing, live or in the snapshot", async () => {
    const { viewer } = cluster();
    await publish("anna", "ben");
    const curious = await (await viewer({ ...anna, query: { agent_ids: "a-ben" } })).joined();
    const witness = await (await viewer(anna)).joined();
    expect((await curious.subscribe({ agent_ids: ["a-ben"] })).ok).to.equal(true);
    const [, seen] = await publish("ben", "anna");
    await witness.has([seen as string]);
    expect((await curious.subscribe({ agent_ids: ["a-anna", "a-ben"] })).ok).to.equal(true);
    const [, own] = await publish("ben", "anna");
    await curious.has([own as string]);
    expect(curious.log).to.deep.equal([own]);
    expect(curious.payloads("SNAPSHOT").map(({ agents }) => agents)).to.deep.equal([[]]);
  });

  it("[D11] the snapshot holds one's own agents, whatever agents the filter names", async () => {
    const { viewer } = cluster();
    await publish("anna", "ben");
    for (const query of [undefined, { agent_ids: "a-anna,a-ben" }]) {
      for (const who of [anna, ben]) {
        const { user } = who;
        const one = await (await viewer({ ...who, ...(query && { query }) })).joined();
        const agents = one.payloads("SNAPSHOT").flatMap(({ agents }) => agents);
        expect(agents.map(({ agent_id }) => agent_id)).to.deep.equal([`a-${user}`]);
      }
    }
  });

  it("[D11] a replay after last_sequence_id holds one's own, from the log and from the index", async () => {
    const { viewer } = cluster();
    const from = await head();
    const [, own] = await publish("ben", "anna", "ben");
    // Dora was never here: for her the log is read. Anna was, so her index is.
    for (const who of [{ ...anna, user: "dora" }, anna]) {
      for (const more of [{}, { agent_ids: "a-anna,a-ben" }]) {
        const one = await viewer({ ...who, query: { last_sequence_id: from, ...more } });
        await one.sees("the end of the replay", () => one.payloads("REPLAY_END").length > 0);
        expect(one.payloads("REPLAY_END")).to.deep.equal([
          { to: one.payloads("REPLAY_END")[0]?.to, count: 1, complete: true },
        ]);
        expect(one.log).to.deep.equal([own]);
      }
    }
  });

  it("[D11] a stock client that resumes gets what it missed of its own", async () => {
    const { viewer } = cluster();
    const one = await (await viewer(anna)).joined();
    one.socket.disconnect();
    const [, own] = await publish("ben", "anna", "ben");
    one.socket.connect();
    await one.has([own as string]);
    await one.sees("the end of the replay", () => one.payloads("REPLAY_END").length > 0);
    expect(one.connects).to.deep.equal([false, true]);
    expect(projectsOf(one)).to.deep.equal(["p-anna"]);
  });

  it("[D11] a stolen pid gives nothing: no recovery, no event, a snapshot of one's own", async () => {
    const { viewer } = cluster();
    const victim = await (await viewer(anna)).joined();
    const [seen] = await publish("anna");
    await victim.has([seen as string]);
    const secrets = secretsOf(victim);
    victim.socket.disconnect();
    const [missed] = await publish("anna", "ben");

    for (const stolen of [secrets, { _pid: secrets._pid, _lastOffset: undefined }]) {
      const thief = await viewer(ben);
      Object.assign(thief.socket, stolen);
      await thief.joined();
      expect(thief.connects).to.deep.equal([false]);
      expect(thief.payloads("READY")).to.have.length(1);
      expect(thief.payloads("READY")[0]).to.include({ recovered: false, user_id: "ben" });
      expect(thief.payloads("REPLAY_START")).to.deep.equal([]);
      expect(projectsOf(thief)).to.deep.equal(["p-ben"]);
      expect(secretsOf(thief)._pid).not.to.equal(secrets._pid);
    }

    // The same secrets in Anna's own hands: what she missed, and her session was not touched.
    const again = await viewer({ ...anna, on: 2 });
    Object.assign(again.socket, secrets);
    await again.has([missed as string]);
    expect(again.connects).to.deep.equal([true]);
    expect(projectsOf(again)).to.deep.equal(["p-anna"]);
  });

  it("[D11] SUBSCRIBE to a foreign project and to one that does not exist: the same answer", async () => {
    const one = await (await cluster().viewer(anna)).joined();
    await publish("ben");
    const answer = await one.subscribe({ project_ids: ["p-ben"] });
    expect(answer).to.deep.include({ ok: false });
    expect(answer.error?.code).to.equal("FORBIDDEN");
    expect(await one.subscribe({ project_ids: ["nowhere"] })).to.deep.equal(answer);
    expect(await one.subscribe({ project_ids: ["p-anna", "nowhere"] })).to.deep.equal(answer);
    expect((await one.subscribe({ project_ids: ["p-anna"] })).ok).to.equal(true);
  });

  for (const way of ["its session", "its position"]) {
    it(`[D11] whoever comes back to ${way} with fewer projects gets nothing of the lost one`, async () => {
      const { viewer } = cluster();
      const both = { user: "carl", projects: ["p-anna", "p-ben"] };
      const one = await (await viewer(both)).joined();
      const [, seen] = await publish("anna", "ben");
      await one.has([seen as string]);
      one.socket.disconnect();
      const [lost, kept] = await publish("ben", "anna");

      const query = { token: token("carl", ["p-anna"]), last_sequence_id: seen as string };
      const less = way === "its session" ? one : await viewer({ user: "carl", query });
      if (less === one) {
        one.socket.io.opts.query = { token: query.token };
        one.socket.connect();
      }
      await less.sees("the end of the replay", () => less.payloads("REPLAY_END").length > 0);
      const [, , alive] = await publish("ben", "ben", "anna");
      await less.has([kept as string, alive as string]);
      expect(
        less.raw.filter(({ payload }) => payload.project_id === "p-ben").map((e) => e.sequence_id),
      ).to.deep.equal(less === one ? [seen] : []);
      expect(less.log).not.to.include(lost);
      expect(less.payloads("REPLAY_END").at(-1)).to.include({ count: 1, complete: true });
    });
  }
});
