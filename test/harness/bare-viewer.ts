import { AGENTS_NAMESPACE, type Envelope } from "@agentwire/shared";
import { type ClientOptions, WebSocket } from "ws";
import { onTeardown } from "./teardown.js";
import { token } from "./token.js";
import { until } from "./wait.js";

type StatusChange = Envelope<"AGENT_STATUS_CHANGED">;

export type BareOptions = ClientOptions & {
  user?: string;
  projects?: string[];
  /** Told of each ping of Engine.IO's, by its number from 1; without it each is answered at once. */
  onPing?: (n: number, pong: () => void) => void;
};

/** Any WebSocket client, and the few packets of Engine.IO and Socket.IO that a viewer needs, in JSON. */
export async function openBare(
  url: string,
  { user = "user-1", projects = ["p1"], onPing = (_, pong) => pong(), ...options }: BareOptions = {},
) {
  const query = new URLSearchParams({ EIO: "4", transport: "websocket", token: token(user, projects) });
  const ws = new WebSocket(`${url.replace("http", "ws")}/socket.io/?${query}`, options);
  onTeardown(() => ws.terminate());
  const texts: string[] = [];
  const events: Envelope[] = [];
  const closed: number[] = [];
  let failure: Error | undefined;
  let pings = 0;
  ws.on("error", (error) => {
    failure = error;
  });
  ws.on("close", (code) => closed.push(code));
  ws.on("message", (data: Buffer) => {
    const text = data.toString();
    texts.push(text);
    if (text.startsWith("0")) ws.send(`40${AGENTS_NAMESPACE},`);
    else if (text === "2") onPing(++pings, () => ws.send("3"));
    const event = `42${AGENTS_NAMESPACE},`;
    if (text.startsWith(event)) events.push(JSON.parse(text.slice(event.length))[1]);
  });
  await until("it has joined", () => {
    if (failure) throw failure;
    return events.some(({ event_type }) => event_type === "SNAPSHOT");
  });
  return {
    ws,
    /** Every message, as text. */
    texts,
    get pings(): number {
      return pings;
    },
    events,
    /** The code with which it was closed. */
    closed,
    get changes(): StatusChange[] {
      return events.filter(({ event_type }) => event_type === "AGENT_STATUS_CHANGED") as StatusChange[];
    },
    /** Writes one frame past `ws`, as it stands: masked with zeros. */
    writeFrame(payload: Buffer, { first, fin = true }: { first: number; fin?: boolean }): void {
      const head = Buffer.alloc(14);
      head[0] = (fin ? 0x80 : 0) | first;
      head[1] = 0x80 | 127;
      head.writeBigUInt64BE(BigInt(payload.length), 2);
      const { _socket: socket } = ws as unknown as { _socket: NodeJS.WritableStream };
      socket.write(head);
      socket.write(payload);
    },
  };
}
