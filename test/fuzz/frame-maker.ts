import { AGENTS_NAMESPACE } from "@agentwire/shared";
import msgpack from "socket.io-msgpack-parser";
import { BINARY, maskedFrame, TEXT } from "../harness/raw-frame.js";
import type { Situation } from "./frame-oracle.js";
import type { Random } from "./random.js";

export interface Made {
  what: string;
  bytes: Buffer;
}

const SOME = [
  "SUBSCRIBE",
  "READY",
  "connect",
  "error",
  "disconnect",
  "__proto__",
  "constructor",
  "agent_ids",
  "a1",
  "",
  "é",
];
const SPACES = [
  AGENTS_NAMESPACE,
  AGENTS_NAMESPACE,
  AGENTS_NAMESPACE,
  "/",
  "/nope",
  "/ws/terminal/t1",
  "ws",
  "/admin",
];
const ALPHABET = `0123456789-[]{}",:/\x1eb SUBSCRIBEws/agents,_placeholder`;
const encoder = new msgpack.Encoder();

/** What a client of good will writes. */
const packets: { type: number; nsp: string; id?: number; data?: unknown }[] = [
  { type: 0, nsp: AGENTS_NAMESPACE },
  { type: 0, nsp: AGENTS_NAMESPACE, data: { pid: "0123456789abcdef", offset: "1-0" } },
  { type: 1, nsp: AGENTS_NAMESPACE },
  { type: 2, nsp: AGENTS_NAMESPACE, data: ["SUBSCRIBE", { agent_ids: ["a1", "a2"] }] },
  {
    type: 2,
    nsp: AGENTS_NAMESPACE,
    id: 7,
    data: ["SUBSCRIBE", { project_ids: ["p1"], event_types: ["FAILED"] }],
  },
];

function encode(packet: object, encoding: Situation["encoding"]): Buffer {
  const { type, nsp, id, data } = packet as (typeof packets)[number];
  if (encoding === "messagepack") {
    return (encoder.encode(packet as never) as unknown as Buffer[])[0] as Buffer;
  }
  return Buffer.from(`4${type}${nsp},${id ?? ""}${data === undefined ? "" : JSON.stringify(data)}`);
}

/** Makes what a client should not write, over one transport. */
export function createMaker(random: Random) {
  const randomBytes = (most: number) =>
    Buffer.from(Array.from({ length: 1 + random.below(most) }, () => random.below(256)));
  const letters = () =>
    Buffer.from(
      Array.from({ length: random.below(80) }, () => ALPHABET[random.below(ALPHABET.length)]).join(""),
    );
  const flipped = (bytes: Buffer): Buffer => {
    const copy = Buffer.from(bytes);
    for (let n = 1 + random.below(8); n > 0; n--) {
      const at = random.below(copy.length);
      copy[at] = (copy[at] as number) ^ (1 << random.below(8));
    }
    return copy;
  };

  const value = (depth: number): unknown => {
    const kind = random.below(depth > 4 ? 7 : 10);
    if (kind < 2) return random.pick(SOME);
    if (kind === 2) return random.below(1000) - 500;
    if (kind === 3) return random.pick([null, true, false]);
    if (kind === 4) return 2 ** random.below(80);
    if (kind === 5) return {};
    if (kind === 6) return deep(random.below(60));
    if (kind === 7) return Array.from({ length: random.below(5) }, () => value(depth + 1));
    return Object.fromEntries(
      Array.from({ length: random.below(4) }, () => [random.pick(SOME), value(depth + 1)]),
    );
  };
  const deep = (levels: number): unknown => (levels === 0 ? 1 : [deep(levels - 1)]);
  const wrongShape = () => {
    const data = random.chance(0.8)
      ? [
          random.chance(0.6) ? "SUBSCRIBE" : value(0),
          ...Array.from({ length: random.below(3) }, () => value(0)),
        ]
      : value(0);
    return {
      type: random.chance(0.7) ? 2 : random.below(8) - 1,
      nsp: random.pick(SPACES),
      ...(random.chance(0.5) && { id: random.chance(0.7) ? random.below(100) : value(3) }),
      ...(random.chance(0.9) && { data }),
    };
  };

  /** One message: its bytes, and what was done to them. */
  const message = ({ encoding }: Situation): Made => {
    const kind = random.below(4);
    if (kind === 0) return { what: "random bytes", bytes: randomBytes(200) };
    if (kind === 1) return { what: "random letters", bytes: letters() };
    if (kind === 2) return { what: "flipped bits", bytes: flipped(encode(random.pick(packets), encoding)) };
    return { what: "a wrong shape", bytes: encode(wrongShape(), encoding) };
  };

  const mask = () =>
    Buffer.from([random.below(256), random.below(256), random.below(256), random.below(256)]);
  return {
    /** As it stands on a WebSocket. */
    webSocket(situation: Situation): Made {
      const kind = random.below(6);
      if (kind === 0) return { what: "random bytes for a frame", bytes: randomBytes(200) };
      if (kind === 1) {
        const opcode = situation.encoding === "json" ? TEXT : BINARY;
        const good = maskedFrame(opcode, encode(random.pick(packets), situation.encoding), mask());
        return { what: "a frame with flipped bits", bytes: flipped(good) };
      }
      const { what, bytes } = message(situation);
      const usual = situation.encoding === "json" ? TEXT : BINARY;
      const opcode = random.chance(0.1) ? TEXT + BINARY - usual : usual;
      return { what: `${what} in a frame`, bytes: maskedFrame(opcode, bytes, mask()) };
    },
    /** As the body of a POST. */
    polling(situation: Situation): Made {
      const { what, bytes } = message(situation);
      const isText = situation.encoding === "json" || random.chance(0.1);
      return {
        what: `${what} in a body`,
        bytes: isText ? bytes : Buffer.from(`b${bytes.toString("base64")}`),
      };
    },
  };
}
