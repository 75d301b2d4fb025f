import { AGENTS_NAMESPACE, type Code, limits } from "@agentwire/shared";
import { expect } from "chai";
import msgpack from "socket.io-msgpack-parser";
import { openBare } from "../harness/bare-viewer.js";
import { sharedCluster } from "../harness/cluster.js";
import { burst } from "../harness/flood.js";
import type { Viewer, ViewerOptions } from "../harness/viewer.js";
import { until } from "../harness/wait.js";

const EVENT = 2;
/** So many objects and lists, one in the other. */
const nested = (levels: number): unknown =>
  levels === 0 ? 1 : levels % 2 === 0 ? [nested(levels - 1)] : { a: nested(levels - 1) };
const named = (key: string): unknown => JSON.parse(`{"agent_ids":[{"a":{"${key}":{"polluted":true}}}]}`);

/** What stands in an event's packet, and how it is answered. All of them end the connection. */
const badEvents: [what: string, data: unknown, code: Code][] = [
  ["SUBSCRIBE without argument", ["SUBSCRIBE"], "INVALID_FILTER"],
  ["SUBSCRIBE null", ["SUBSCRIBE", null], "INVALID_FILTER"],
  ["SUBSCRIBE text", ["SUBSCRIBE", "a1"], "INVALID_FILTER"],
  ["SUBSCRIBE a number", ["SUBSCRIBE", 7], "INVALID_FILTER"],
  ["SUBSCRIBE true", ["SUBSCRIBE", true], "INVALID_FILTER"],
  ["SUBSCRIBE a list", ["SUBSCRIBE", ["a1"]], "INVALID_FILTER"],
  ["SUBSCRIBE two objects", ["SUBSCRIBE", {}, {}], "INVALID_FILTER"],
  ...["NOPE", "READY", "ERROR", "subscribe", "toString", "constructor", "__proto__", ""].map(
    (name): [string, unknown, Code] => [`the event "${name}"`, [name, {}], "UNKNOWN_EVENT"],
  ),
  ...[
    "connect",
    "connect_error",
    "disconnect",
    "disconnecting",
    "error",
    "newListener",
    "removeListener",
  ].map((name): [string, unknown, Code] => [`the reserved name ${name}`, [name, {}], "BAD_REQUEST"]),
  ["a number for a name", [7, {}], "BAD_REQUEST"],
  ["null for a name", [null], "BAD_REQUEST"],
  ["a list for a name", [["SUBSCRIBE"], {}], "BAD_REQUEST"],
  ["an event without a name", [], "BAD_REQUEST"],
  ["an object for an event", { 0: "SUBSCRIBE" }, "BAD_REQUEST"],
  ["text for an event", "SUBSCRIBE", "BAD_REQUEST"],
  ["33 levels", ["SUBSCRIBE", { agent_ids: nested(limits.nesting) }], "BAD_REQUEST"],
  ["33 levels in another argument", ["SUBSCRIBE", {}, nested(limits.nesting + 1)], "BAD_REQUEST"],
  ["40,000 levels", ["SUBSCRIBE", "deep"], "BAD_REQUEST"],
  ...["__proto__", "constructor", "prototype"].map((key): [string, unknown, Code] => [
    `a key ${key}`,
    ["SUBSCRIBE", named(key)],
    "BAD_REQUEST",
  ]),
  ["binary data", ["SUBSCRIBE", Buffer.from("bytes")], "BAD_REQUEST"],
  ["binary data within", ["SUBSCRIBE", { agent_ids: [Buffer.from("bytes")] }], "BAD_REQUEST"],
];

const encoder = new msgpack.Encoder();
const DEEP = 40_000;

/** The packet as it is written, in either encoding. */
function packed(encoding: string, data: unknown, id?: number): string | Buffer {
  const isDeep = Array.isArray(data) && data[1] === "deep";
  if (encoding === "messagepack") {
    const [bytes] = encoder.encode({
      type: EVENT,
      ...(id !== undefined && { id }),
      nsp: AGENTS_NAMESPACE,
      data,
    } as never) as unknown as Buffer[];
    if (!isDeep) return bytes as Buffer;
    // In the place of "deep", the last value: lists of one.
    return Buffer.concat([(bytes as Buffer).subarray(0, -5), Buffer.alloc(DEEP, 0x91), Buffer.from([1])]);
  }
  const text = isDeep
    ? `["SUBSCRIBE",${"[".repeat(DEEP)}${"]".repeat(DEEP)}]`
    : JSON.stringify(data, (_, value) => (value?.type === "Buffer" ? { _placeholder: true, num: 0 } : value));
  const type = text.includes("_placeholder") ? "51-" : EVENT;
  return `${type}${AGENTS_NAMESPACE},${id ?? ""}${text}`;
}

/** What cannot be read at all, or only a server says. */
const head = `${AGENTS_NAMESPACE},`;
const badPackets: [what: string, packet: string | Buffer][] = [
  ["an empty packet", ""],
  ["an unknown type", `9${head}["SUBSCRIBE",{}]`],
  ["no JSON", `2${head}["SUBSCRIBE",{}`],
  ["an event without data", `2${head}`],
  ["a fraction for an id", `2${head}1.5["SUBSCRIBE",{}]`],
  ["a negative id", `2${head}-1["SUBSCRIBE",{}]`],
  ["an id that no number holds", `2${head}99999999999999999999["SUBSCRIBE",{}]`],
  ["an acknowledgement", `3${head}7[{}]`],
  ["a CONNECT_ERROR", `4${head}{"message":"no"}`],
  ["an acknowledgement with bytes", `61-${head}7[{"_placeholder":true,"num":0}]`],
  ["bytes that nobody waits for", Buffer.from("bytes")],
  ["a DISCONNECT with data", `1${head}{}`],
];
const badBytes: [what: string, packet: string | Buffer][] = [
  ["nothing after a head", Buffer.from([0x84])],
  ["two values", Buffer.from([0x01, 0x01])],
  ["a list that says it has 30,000,000 values", Buffer.from([0xdd, 0x01, 0xc9, 0xc3, 0x80])],
  ["an ArrayBuffer that says it has 4 GB", Buffer.from([0xc9, 0xff, 0xff, 0xff, 0xff, 0x00])],
  ["text that says it has 4 GB", Buffer.from([0xdb, 0xff, 0xff, 0xff, 0xff, 0x61])],
  ["text", `2${head}["SUBSCRIBE",{}]`],
  ...[-1, 1.5, 1e30, Number.NaN, "7", null].map((id): [string, Buffer] => [
    `the id ${id}`,
    packed("messagepack", ["NOPE"], id as number) as Buffer,
  ]),
  ...["", "ws/agents", "/a,b", `/${"x".repeat(300)}`, 7, null].map((nsp): [string, Buffer] => [
    `the namespace ${String(nsp).slice(0, 20)}`,
    (encoder.encode({ type: EVENT, nsp, data: ["NOPE"] } as never) as unknown as Buffer[])[0] as Buffer,
  ]),
  ...[3, 4, 5, 9, -1, "2"].map((type): [string, Buffer] => [
    `the type ${type}`,
    (
      encoder.encode({ type, nsp: AGENTS_NAMESPACE, data: ["NOPE"] } as never) as unknown as Buffer[]
    )[0] as Buffer,
  ]),
];

describe("bad events", () => {
  const cluster = sharedCluster({ nodes: 1 });

  afterEach("the node lives, and had nothing to say", async () => {
    const node = cluster().node(1);
    expect(await node.readyz()).to.equal(200);
    expect(node.stderr).to.equal("");
    expect(node.log.filter(({ level }) => Number(level) >= 50)).to.deep.equal([]);
  });

  const open = async (transport: string, encoding: string, more: ViewerOptions = {}) => {
    const { viewer } = cluster();
    const socket: ViewerOptions["socket"] = { transports: [transport], ...more.socket };
    if (encoding === "messagepack") Object.assign(socket, { parser: msgpack });
    return (await viewer({ query: { encoding }, ...more, socket })).joined();
  };

  /** Why a stock client was closed; it does not come back by itself. */
  const dismissed = async (viewer: Viewer, about: string): Promise<Code | undefined> => {
    await viewer.sees(`the end after ${about}`, () => !viewer.socket.connected);
    expect(viewer.reasons, about).to.deep.equal(["io server disconnect"]);
    expect(viewer.socket.active, about).to.equal(false);
    expect(viewer.payloads("ERROR"), about).to.have.length(1);
    expect(viewer.received.at(-1)?.event_type, about).to.equal("ERROR");
    return viewer.payloads("ERROR")[0]?.code;
  };

  for (const transport of ["websocket", "polling"]) {
    for (const encoding of ["json", "messagepack"]) {
      it(`[D13] over ${transport} in ${encoding}: ERROR and the acknowledgement say what is wrong, then the connection is closed for good`, async () => {
        for (const [what, data, code] of badEvents) {
          for (const asks of [true, false]) {
            const viewer = await open(transport, encoding);
            const answers: unknown[] = [];
            const { acks } = viewer.socket as unknown as { acks: Record<number, unknown> };
            acks[7] = (answer: unknown) => answers.push(answer);
            viewer.socket.io.engine.write(packed(encoding, data, asks ? 7 : undefined));
            expect(await dismissed(viewer, what), what).to.equal(code);
            const message = viewer.payloads("ERROR")[0]?.message;
            expect(answers, what).to.deep.equal(asks ? [{ ok: false, error: { code, message } }] : []);
          }
        }
      });

      it(`[D13] over ${transport} in ${encoding}: what is no packet of a client is answered with BAD_REQUEST, and closed`, async () => {
        for (const [what, packet] of encoding === "json" ? badPackets : badBytes) {
          const viewer = await open(transport, encoding);
          viewer.socket.io.engine.write(packet);
          expect(await dismissed(viewer, what), what).to.equal("BAD_REQUEST");
        }
      });

      it(`[D13] over ${transport} in ${encoding}: 32 levels are not too many, and what follows a bad event is not heard`, async () => {
        const viewer = await open(transport, encoding);
        const deep = { agent_ids: nested(limits.nesting - 1) };
        expect((await viewer.subscribe(deep)).error?.code).to.equal("INVALID_FILTER");
        viewer.socket.emit("NOPE");
        for (let n = 0; n < 50; n++) viewer.socket.emit("SUBSCRIBE", { agent_ids: [`a${n}`] });
        expect(await dismissed(viewer, "NOPE")).to.equal("UNKNOWN_EVENT");
        expect(viewer.payloads("FILTERS_UPDATED")).to.deep.equal([]);
      });
    }
  }

  it("[D13] ERROR arrives although much waits before it, and nobody else notices", async () => {
    const quiet = await (await cluster().viewer({ user: "quiet" })).joined();
    const viewer = await open("websocket", "json");
    const worker = cluster().worker();
    const sent = await burst(worker, 150);
    viewer.socket.emit("NOPE");
    sent.push(...(await burst(worker, 20)));
    expect(await dismissed(viewer, "NOPE")).to.equal("UNKNOWN_EVENT");
    await quiet.has(sent.map(({ sequence_id }) => sequence_id));
    expect(quiet.disconnects).to.equal(0);
  });

  it("[D13] one that does not read its ERROR is cut off after a second", async () => {
    const { client, keys, node } = cluster();
    const bad = await openBare(node(1).url, { user: "deaf", perMessageDeflate: false });
    bad.ws.pause();
    const worker = cluster().worker();
    const message = "x".repeat(16_000);
    // More than the network takes.
    for (let n = 0; n < 1500; n += 20)
      await Promise.all(
        Array.from({ length: 20 }, () =>
          worker.agentStatus({ agent_id: "a1", project_id: "p1", new_status: "failed", message }),
        ),
      );
    const open = async () => (await client().exists(keys.userConnections("deaf"))) === 1;
    expect(await open()).to.equal(true);
    const began = performance.now();
    bad.ws.send(`42${AGENTS_NAMESPACE},["NOPE"]`);
    await until("its line is cut", () => {
      // Who does not read notices when it writes.
      bad.ws.ping();
      return bad.ws.readyState !== bad.ws.OPEN;
    });
    expect(await open()).to.equal(false);
    expect(performance.now() - began).to.be.within(900, 3000);
  });

  it("[D13] ten SUBSCRIBEs in any second: the eleventh is refused, with or without acknowledgement, and changes nothing", async () => {
    const viewer = await open("websocket", "json");
    const { subscriptionsPerSecond: most } = limits;
    const ask = (n: number) => viewer.subscribe(n % 2 === 0 ? { agent_ids: [`a${n}`] } : { nonsense: true });
    const answers = await Promise.all(Array.from({ length: most + 3 }, (_, n) => ask(n)));
    expect(answers.map(({ error }) => error?.code)).to.deep.equal([
      ...Array.from({ length: most }, (_, n) => (n % 2 === 0 ? undefined : "INVALID_FILTER")),
      ...Array(3).fill("RATE_LIMITED"),
    ]);
    viewer.socket.emit("SUBSCRIBE", { agent_ids: ["a99"] });
    await viewer.sees("an ERROR", () => viewer.payloads("ERROR").length > 0);
    expect(viewer.payloads("ERROR")[0]).to.include({ code: "RATE_LIMITED", retry: "later" });
    expect(viewer.payloads("FILTERS_UPDATED").at(-1)).to.deep.include({ agent_ids: [`a${most - 2}`] });
    // What was refused for that does not count.
    await until("there is room again", async () => (await ask(100)).ok);
    expect(viewer.connects).to.deep.equal([false]);
    await viewer.sees("its filters", () =>
      viewer.payloads("FILTERS_UPDATED").some(({ agent_ids }) => agent_ids[0] === "a100"),
    );
  });
});
