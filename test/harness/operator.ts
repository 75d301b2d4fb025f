import { WebSocket } from "ws";
import { onTeardown } from "./teardown.js";
import { until } from "./wait.js";

export const OPERATOR = { ADMIN_USERNAME: "operator", ADMIN_PASSWORD: "correct horse battery staple" };
export const CREDENTIALS = { username: OPERATOR.ADMIN_USERNAME, password: OPERATOR.ADMIN_PASSWORD };
/** The same as `auth` of a CONNECT packet. */
export const RIGHT = JSON.stringify(CREDENTIALS);

export interface Packet {
  /** `0`: let in; `4`: refused; `2`: an event. */
  type: string;
  data: unknown;
}

/** Socket.IO packets of one namespace in the texts of Engine.IO messages. */
function packetsOf(namespace: string, text: string): Packet[] {
  const found: Packet[] = [];
  for (const message of text.split("\x1e")) {
    const [, type, name, data] = /^4(\d)(?:(\/[^,]*),)?(.*)$/s.exec(message) ?? [];
    if (type !== undefined && (name ?? "/") === namespace)
      found.push({ type, data: data ? JSON.parse(data) : undefined });
  }
  return found;
}

export interface ConnectOptions {
  /** JSON as it goes into the CONNECT packet. */
  auth?: string;
  query?: Record<string, string>;
  /** An address of this machine to come from. */
  from?: string;
  headers?: Record<string, string>;
}

/** A bare WebSocket that asks for one namespace, with anything as `auth`. */
export async function connectTo(url: string, namespace: string, options: ConnectOptions = {}) {
  const { auth = "{}", query = {}, from = "127.0.0.1", headers = {} } = options;
  const search = new URLSearchParams({ EIO: "4", transport: "websocket", ...query });
  const ws = new WebSocket(`${url.replace("http", "ws")}/socket.io/?${search}`, {
    localAddress: from,
    headers,
  });
  onTeardown(() => ws.terminate());
  const packets: Packet[] = [];
  let closed = false;
  let failure: Error | undefined;
  ws.on("error", (error) => {
    failure = error;
  });
  ws.on("close", () => {
    closed = true;
  });
  const ask = (json = auth) => ws.send(`40${namespace},${json}`);
  ws.on("message", (data: Buffer) => {
    const text = data.toString();
    if (text.startsWith("0")) ask();
    if (text === "2") ws.send("3");
    packets.push(...packetsOf(namespace, text));
  });
  const verdicts = () => packets.filter(({ type }) => type === "0" || type === "4");
  await until(`an answer for ${namespace}`, () => {
    if (failure) throw failure;
    return verdicts().length > 0 || closed;
  });
  return {
    ws,
    packets,
    ask,
    verdicts,
    get closed(): boolean {
      return closed;
    },
    /** The first answer; nothing when the connection was closed without one. */
    verdict: verdicts()[0],
    /** Arguments of every event of this name, in order of arrival. */
    events: (name: string): unknown[][] =>
      packets
        .filter(({ type }) => type === "2")
        .map(({ data }) => data as [string, ...unknown[]])
        .filter(([event]) => event === name)
        .map(([, ...args]) => args),
    emit: (...event: unknown[]) => ws.send(`42${namespace},${JSON.stringify(event)}`),
  };
}

/** The same over long polling; only the answer. */
export async function pollInto(
  url: string,
  namespace: string,
  { auth = "{}", query = {} }: Omit<ConnectOptions, "from"> = {},
): Promise<Packet | undefined> {
  const search = new URLSearchParams({ EIO: "4", transport: "polling", ...query });
  const address = `${url}/socket.io/?${search}`;
  const opened = await (await fetch(address)).text();
  if (!opened.startsWith("0")) throw new Error(`no connection: ${opened}`);
  const here = `${address}&sid=${JSON.parse(opened.slice(1)).sid}`;
  await fetch(here, { method: "POST", body: `40${namespace},${auth}` });
  return packetsOf(namespace, await (await fetch(here)).text())[0];
}

/** What `/admin` refuses with, or `let in`. */
export const refusalOf = async (url: string, options: ConnectOptions): Promise<unknown> => {
  const { verdict } = await connectTo(url, "/admin", options);
  return verdict?.type === "4" ? verdict.data : "let in";
};
