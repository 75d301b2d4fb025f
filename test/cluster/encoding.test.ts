import { expect } from "chai";
import msgpack from "socket.io-msgpack-parser";
import { sharedCluster } from "../harness/cluster.js";

const change = (n: number) => ({
  agent_id: "a1",
  project_id: "p1",
  new_status: "working" as const,
  message: `ünïcode ${n} 🚀`,
  progress: n / 3,
});
const inMessagePack = { query: { encoding: "messagepack" }, socket: { parser: msgpack } };

describe("encodings", () => {
  const cluster = sharedCluster({ nodes: 2 });

  for (const transport of ["websocket", "polling"]) {
    it(`[D19] over ${transport}, JSON and MessagePack viewers get the same, and a resume goes on in MessagePack`, async () => {
      const { viewer, worker } = cluster();
      const socket = { transports: [transport] };
      const json = await (await viewer({ on: 2, user: `json-${transport}`, socket })).joined();
      const packed = await viewer({
        on: 1,
        user: `packed-${transport}`,
        query: inMessagePack.query,
        socket: { ...inMessagePack.socket, ...socket },
      });
      await packed.joined();
      expect(packed.payloads("READY")[0]?.encoding).to.equal("messagepack");
      const emitter = worker();
      const ids: string[] = [];
      for (let n = 0; n < 5; n++) ids.push((await emitter.agentStatus(change(n))).sequence_id);
      await Promise.all([json.has(ids), packed.has(ids)]);
      expect(packed.raw).to.deep.equal(json.raw);

      expect(await packed.subscribe({ agent_ids: ["a1"] })).to.include({ ok: true });
      expect((await packed.subscribe({ project_ids: ["foreign"] })).error?.code).to.equal("FORBIDDEN");
      packed.socket.io.engine.close();
      ids.push((await emitter.agentStatus(change(5))).sequence_id);
      await packed.has(ids);
      expect(packed.connects).to.deep.equal([false, true]);
      expect(packed.raw.map(({ sequence_id }) => sequence_id)).to.deep.equal(ids);
    });
  }

  it("[D12] an unknown namespace is refused in MessagePack, with its code", async () => {
    const { viewer } = cluster();
    const one = await (await viewer({ user: "other", ...inMessagePack })).joined();
    const other = one.socket.io.socket("/nope");
    const error = await new Promise<Error & { data?: unknown }>((resolve) =>
      other.once("connect_error", resolve),
    );
    expect(error.data).to.include({ code: "NAMESPACE_UNKNOWN", retry: "never" });
    expect(one.socket.connected).to.equal(true);
  });

  it("[D13] a name that Socket.IO keeps for itself closes the connection that sends it, and no other", async () => {
    const { viewer, worker } = cluster();
    const good = await (await viewer({ user: "good" })).joined();
    const bad = await (await viewer({ user: "bad", ...inMessagePack })).joined();
    const disconnect = { type: 2, nsp: "/ws/agents", data: ["disconnect", "x"] };
    // Its types promise one buffer; it gives a list of one.
    const [packet] = new msgpack.Encoder().encode(disconnect) as unknown as Buffer[];
    bad.socket.io.engine.write(packet as never);
    await bad.sees("its connection lost", ({ disconnects }) => disconnects > 0);
    const { sequence_id } = await worker().agentStatus(change(9));
    await good.has([sequence_id]);
    expect(good.disconnects).to.equal(0);
  });
});
