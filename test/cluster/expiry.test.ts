import { expect } from "chai";
import { sharedCluster } from "../harness/cluster.js";
import { token } from "../harness/token.js";

const change = { agent_id: "a1", project_id: "p1", new_status: "working" as const };

describe("a token that runs out", () => {
  const cluster = sharedCluster({ nodes: 1 });

  for (const transports of [["websocket"], ["polling"]]) {
    it(`[D24] over ${transports}: TOKEN_EXPIRING, closed after exp, and a new token resumes`, async () => {
      const { viewer, worker } = cluster();
      const exp = Math.floor(Date.now() / 1000) + 4;
      const watching = await viewer({
        query: { token: token("anna", ["p1"], { expiresIn: 4 }) },
        socket: { transports, reconnection: false },
      });
      await watching.joined();
      const worker1 = worker();
      const { sequence_id } = await worker1.agentStatus(change);
      await watching.has([sequence_id]);
      await watching.sees("the warning", () => watching.payloads("TOKEN_EXPIRING").length > 0);
      expect(watching.payloads("TOKEN_EXPIRING")).to.have.length(1);
      expect(watching.payloads("TOKEN_EXPIRING")[0]?.expires_in_ms).to.be.within(1, 4000);

      await watching.sees("the end", () => watching.disconnects === 1);
      expect(Date.now()).to.be.at.least(exp * 1000);
      expect(watching.payloads("ERROR").map(({ code, retry }) => [code, retry])).to.deep.equal([
        ["UNAUTHORIZED", "new_token"],
      ]);
      const missed = await worker1.agentStatus({ ...change, new_status: "completed" });

      watching.socket.io.opts.query = { token: token("anna", ["p1"]) };
      watching.socket.connect();
      await watching.has([missed.sequence_id]);
      expect(watching.connects).to.deep.equal([false, true]);
    });
  }

  it("[D24] a client that ignores it all is closed as well, and its old token does not come in again", async () => {
    const { viewer } = cluster();
    const watching = await viewer({ query: { token: token("ben", ["p1"], { expiresIn: 2 }) } });
    await watching.joined();
    await watching.sees("the end", () => watching.disconnects === 1);
    await watching.sees("a refusal", () => watching.errors.length > 0);
    expect(watching.connects).to.deep.equal([false]);
  });
});
