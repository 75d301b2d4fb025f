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

  it("[D19] JSON and MessagePack, over WebSocket and over polling: four viewers in one room get the same, of any size", async () => {
    const { viewer, worker, post } = cluster();
    const ways = ["websocket", "polling"].flatMap((transport) =>
      [{}, inMessagePack].map((how: { query?: Record<string, string>; socket?: object }) => ({
        ...how,
        socket: { ...how.socket, transports: [transport] },
      })),
    );
    const opened = await Promise.all(
      ways.map((how, n) => viewer({ ...how, on: (n % 2) + 1, user: `four-${n}`, projects: ["p3"] })),
    );
    const arguments_ = opened.map(({ socket }) => {
      const all: unknown[][] = [];
      socket.onAny((...args: unknown[]) => all.push(args));
      return all;
    });
    await Promise.all(opened.map((one) => one.joined()));
    const emitter = worker();
    const texts = ["", "a", "ünïcode 🚀 \u0000 \u2028 \ufeff", "long ".repeat(3000), "🚀".repeat(8000)];
    const ids: string[] = [];
    // One after the other: what is CRITICAL may overtake.
    const published = async (sequence_id: string) => {
      ids.push(sequence_id);
      await Promise.all(opened.map((one) => one.has([sequence_id])));
    };
    for (const [n, message] of texts.entries()) {
      const about = { agent_id: `a${n}`, project_id: "p3" };
      const more = { task_id: "t1", attempt: 2 ** 16 + n, progress: n / 3, message };
      await published((await emitter.agentStatus({ ...about, new_status: "working", ...more })).sequence_id);
      await published((await emitter.agentStatus({ ...about, new_status: "failed" })).sequence_id);
      const body = { event_type: "AGENT_STATUS_CHANGED", ...about, payload: { new_status: "idle", message } };
      await published(((await (await post(body)).json()) as { sequence_id: string }).sequence_id);
    }
    // Names, envelopes, offsets: what differs is what each READY says of its own connection.
    const [first, ...others] = arguments_.map((all) => all.filter(([name]) => name !== "READY"));
    expect(first?.map(([name]) => name)).to.deep.equal([
      "SNAPSHOT",
      ...ids.map(() => "AGENT_STATUS_CHANGED"),
    ]);
    expect(first?.slice(1).map(([, , offset]) => offset)).to.deep.equal(ids);
    const unstamped = (all: unknown[][] | undefined) =>
      all?.map(([name, envelope, ...rest]) => {
        if (name !== "SNAPSHOT") return [name, envelope, ...rest];
        // What the server says to one connection has its own id, time and position.
        return [name, (envelope as { payload: { agents: unknown } }).payload.agents, ...rest];
      });
    for (const other of others) expect(unstamped(other)).to.deep.equal(unstamped(first));
  });

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
