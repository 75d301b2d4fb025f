import { expect } from "chai";
import { startCluster } from "../harness/cluster.js";
import { needs } from "../harness/needs.js";
import { sharedPostgres } from "../harness/postgres.js";
import { openConnection, playWorker, someBytes, TerminalWatcher } from "../harness/terminal.js";
import { until } from "../harness/wait.js";

describe("terminals, and rights that change", () => {
  needs("POSTGRES");
  const postgres = sharedPostgres();

  it("[D25][D29] a right that is lost closes the terminal within a second, and says why; all else goes on", async () => {
    await postgres().members({ anna: ["p1", "p2"], ben: ["p2"] });
    const cluster = await startCluster({ nodes: 1, settings: { DATABASE_URL: postgres().url } });
    const [lost, kept] = [
      await playWorker(cluster, "lost", { project: "p2" }),
      await playWorker(cluster, "kept", { project: "p1" }),
    ];
    const { url } = cluster.node(1);
    const manager = openConnection(url, { user: "anna" });
    const [hers, also] = [
      await new TerminalWatcher(url, "lost", { manager }).ready(),
      await new TerminalWatcher(url, "kept", { manager }).ready(),
    ];
    const his = await new TerminalWatcher(url, "lost", { user: "ben" }).ready();
    await lost.write(someBytes(10_000));
    await hers.has(10_000, lost.written);
    await hers.ask("PAUSE_STREAM");
    await lost.write(someBytes(10_000, 2));
    await postgres().members({ anna: ["p1"], ben: ["p2"] });
    await cluster.client().publish(cluster.keys.accessChanged, JSON.stringify({ user_id: "anna" }));
    await until("it is closed", () => hers.reasons.length > 0, 5000);
    expect(hers.reasons).to.deep.equal(["io server disconnect"]);
    expect(hers.payloads("ACCESS_REVOKED")).to.deep.equal([{ project_ids: ["p2"] }]);
    expect(hers.bytes.length).to.equal(10_000);
    await Promise.all([lost.write(someBytes(10, 3)), kept.write(someBytes(10))]);
    await his.has(20_010, lost.written);
    await also.has(10, kept.written);
    expect(also.payloads("ACCESS_REVOKED")).to.have.length(1);
    hers.socket.connect();
    await hers.sees("a refusal", () => hers.errors.length > 0);
    expect((hers.errors[0]?.data as { code?: string } | undefined)?.code).to.equal("TASK_NOT_FOUND");
  });
});
