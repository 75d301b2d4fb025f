import bcrypt from "bcryptjs";
import { expect } from "chai";
import { startCluster } from "../harness/cluster.js";
import { needs } from "../harness/needs.js";
import { connectTo, OPERATOR, RIGHT, refusalOf } from "../harness/operator.js";
import { until } from "../harness/wait.js";

describe("the operators' door, set otherwise", () => {
  needs("REDIS");

  it("[D27] with ADMIN_READONLY=false operators may disconnect viewers of any node, and do nothing else", async () => {
    // The password as a bcrypt hash is the same door.
    const ADMIN_PASSWORD = await bcrypt.hash(OPERATOR.ADMIN_PASSWORD, 4);
    const settings = { ...OPERATOR, ADMIN_PASSWORD, ADMIN_READONLY: "false" };
    const cluster = await startCluster({ nodes: 2, settings });
    const [one, other] = await Promise.all(
      [1, 2].map(async (on) => (await cluster.viewer({ on, socket: { reconnection: false } })).joined()),
    );
    if (!one || !other) throw new Error("two viewers are expected");
    const operator = await connectTo(cluster.node(1).adminUrl, "/admin", { auth: RIGHT });
    expect(operator.verdict?.type).to.equal("0");
    await until("the page is told what it may do", () => operator.events("config").length === 2);
    const supportedFeatures = ["DISCONNECT", "AGGREGATED_EVENTS", "ALL_EVENTS"];
    expect(operator.events("config").at(-1)).to.deep.equal([{ supportedFeatures }]);
    const heard = [one, other].map(({ received }) => received.length);
    const entries = await cluster.client().xlen("ws:events");
    for (const event of ["emit", "join", "leave", "_disconnect"])
      for (const args of [
        [],
        [null],
        [5, 5, 5],
        ["/new"],
        ["/ws/agents"],
        ["/ws/agents", "connect", {}],
        ["/ws/agents", true, ""],
      ])
        operator.emit(event, ...args);
    for (const event of ["emit", "join", "leave"]) operator.emit(event, "/ws/agents", true, "project:p1");
    operator.emit("_disconnect", "/admin", true, "project:p1");
    operator.emit("_disconnect", "/ws/agents", "yes", "project:p1");
    operator.emit("_disconnect", "/ws/agents", true, ["project:p1"]);
    operator.emit("_disconnect", "/ws/agents", false, other.socket.id);
    await until("the other node's viewer is gone", () => !other.socket.connected);
    expect(one.socket.connected).to.equal(true);
    expect([one, other].map(({ received }) => received.length)).to.deep.equal(heard);
    operator.emit("_disconnect", "/ws/agents", true, "project:p1");
    await until("everybody in the room is gone", () => !one.socket.connected);
    expect(await cluster.client().xlen("ws:events")).to.equal(entries);
    for (const { alive, stderr } of cluster.nodes) expect([alive, stderr]).to.deep.equal([true, ""]);
  });

  it("[D27] nobody is let in while Redis is away; who is in stays, and hears of all nodes when it is back", async () => {
    const cluster = await startCluster({ nodes: 2, settings: OPERATOR });
    const { adminUrl } = cluster.node(1);
    const operator = await connectTo(adminUrl, "/admin", { auth: RIGHT });
    const [[sessionId] = []] = operator.events("session");
    await cluster.redis.kill();
    const unavailable = async () => {
      const data = await refusalOf(adminUrl, { auth: RIGHT });
      return (data as { data?: { code: string } }).data?.code === "UNAVAILABLE";
    };
    await until("passwords are not looked at", unavailable);
    expect(await refusalOf(adminUrl, { auth: JSON.stringify({ sessionId }) })).to.have.nested.property(
      "data.code",
      "UNAVAILABLE",
    );
    const heard = operator.events("server_stats").length;
    await until("this node is still heard", () => operator.events("server_stats").length > heard);
    await cluster.redis.restart({ empty: true });
    const since = operator.packets.length;
    await until("the other node is heard again", () =>
      JSON.stringify(operator.packets.slice(since)).includes('"serverId":"node-2"'),
    );
    await until(
      "operators are let in again",
      async () => (await refusalOf(adminUrl, { auth: RIGHT })) === "let in",
    );
    for (const { alive, stderr } of cluster.nodes) expect([alive, stderr]).to.deep.equal([true, ""]);
  });
});
