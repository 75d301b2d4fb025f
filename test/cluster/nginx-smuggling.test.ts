import { expect } from "chai";
import { sharedCluster } from "../harness/cluster.js";
import { needs } from "../harness/needs.js";
import { type Nginx, startNginx } from "../harness/nginx.js";
import { exchange, requestText } from "../harness/raw-http.js";
import { openRecorder } from "../harness/recorder.js";
import { keepBeyondTest } from "../harness/teardown.js";
import { SERVICE_KEY, token } from "../harness/token.js";

const CHANGE = { event_type: "AGENT_STATUS_CHANGED", project_id: "p1", payload: { new_status: "working" } };
const publish = (agent: string) => {
  const body = JSON.stringify({ ...CHANGE, agent_id: agent });
  const headers = {
    "X-Internal-Service-Key": SERVICE_KEY,
    "Content-Type": "application/json",
    "Content-Length": String(body.length),
  };
  return requestText("POST /api/v1/internal/ws/publish", headers, body);
};
const HIDDEN = publish("smuggled");
const LENGTH = { "Content-Length": String(HIDDEN.length) };
const CHUNKED = { "Transfer-Encoding": "chunked" };
const CHUNK = `${HIDDEN.length.toString(16)}\r\n${HIDDEN}\r\n0\r\n\r\n`;
/** Ends the exchange where the connection lives on. */
const LAST = requestText("GET /healthz");

const UPGRADE = {
  Connection: "Upgrade",
  Upgrade: "websocket",
  "Sec-WebSocket-Version": "13",
  "Sec-WebSocket-Key": "MDEyMzQ1Njc4OWFiY2RlZg==",
};
const H2C = {
  Connection: "Upgrade, HTTP2-Settings",
  Upgrade: "h2c",
  "HTTP2-Settings": "AAMAAABkAARAAAAAAAIAAAAA",
};
const address = (who: string) => `/socket.io/?EIO=4&transport=websocket&token=${who}`;

describe("requests hidden behind an upgrade", () => {
  needs("NGINX");
  needs("REDIS");
  const cluster = sharedCluster({ nodes: 1 });
  let front: { value: Nginx; undo(): Promise<void> } | undefined;
  before("start nginx", async () => {
    front = await keepBeyondTest(() => startNginx([cluster().node(1).port]));
  });
  after("stop nginx", () => front?.undo());
  const nginx = (): Nginx => front?.value as Nginx;
  const welcome = () => `GET ${address(token("anna", ["p1"]))}`;
  const unwelcome = `GET ${address("no.token")}`;

  /** What is published later is there, and nothing before it. */
  async function nothingWasPublished(): Promise<void> {
    const { redis, node, keys } = cluster();
    const { statuses } = await exchange(node(1).url, publish("control"));
    expect(statuses).to.deep.equal([202]);
    expect(await redis.client().exists(keys.agent("control"))).to.equal(1);
    expect(await redis.client().exists(keys.agent("smuggled"))).to.equal(0);
  }

  type Case = [what: string, statuses: number[][], bytes: () => string];
  const cases: Case[] = [
    [
      "in a body with its length",
      [[400]],
      () => requestText(welcome(), { ...UPGRADE, ...LENGTH }, HIDDEN) + LAST,
    ],
    ["in a chunked body", [[400]], () => requestText(welcome(), { ...UPGRADE, ...CHUNKED }, CHUNK) + LAST],
    [
      "in a body of a request without a token",
      [[401]],
      () => requestText(unwelcome, { ...UPGRADE, ...LENGTH }, HIDDEN) + LAST,
    ],
    [
      "in a body with two lengths",
      [[400]],
      () =>
        requestText(welcome(), { ...UPGRADE, "Content-Length": ["0", LENGTH["Content-Length"]] }, HIDDEN) +
        LAST,
    ],
    [
      "in a body with length and chunks",
      [[400]],
      () => requestText(welcome(), { ...UPGRADE, ...LENGTH, ...CHUNKED }, CHUNK) + LAST,
    ],
    [
      "in a body whose encoding nobody knows",
      [[501], [400]],
      () => requestText(welcome(), { ...UPGRADE, "Transfer-Encoding": "xchunked" }, CHUNK) + LAST,
    ],
    [
      "after a length of 0",
      [[101]],
      () => requestText(welcome(), { ...UPGRADE, "Content-Length": "0" }) + HIDDEN + LAST,
    ],
    ["after an upgrade that is refused", [[401]], () => requestText(unwelcome, UPGRADE) + HIDDEN + LAST],
    [
      "after an upgrade of another session",
      [[400]],
      () => requestText(`${welcome()}&sid=x.node-1`, UPGRADE) + HIDDEN + LAST,
    ],
    [
      "after a version that nobody speaks",
      [[400], [426]],
      () => requestText(welcome(), { ...UPGRADE, "Sec-WebSocket-Version": "99" }) + HIDDEN + LAST,
    ],
    ["after an upgrade that is taken", [[101]], () => requestText(welcome(), UPGRADE) + HIDDEN + LAST],
    [
      "in the body of a POST that asks for an upgrade",
      [[400]],
      () => requestText(welcome().replace("GET", "POST"), { ...UPGRADE, ...LENGTH }, HIDDEN) + LAST,
    ],
    ["after h2c", [[400]], () => requestText(welcome(), H2C) + HIDDEN],
    ["in a body with h2c", [[400]], () => requestText(welcome(), { ...H2C, ...LENGTH }, HIDDEN) + LAST],
    ["after h2c on another path", [[200, 404]], () => requestText("GET /healthz", H2C) + HIDDEN],
    ["after WebSocket on another path", [[200, 404]], () => requestText("GET /healthz", UPGRADE) + HIDDEN],
    ["after WebSocket on the page's path", [[200, 404]], () => requestText("GET /", UPGRADE) + HIDDEN],
    [
      "after WebSocket or h2c",
      [[400]],
      () => requestText(welcome(), { ...UPGRADE, Upgrade: "websocket, h2c" }) + HIDDEN,
    ],
    [
      "after h2c, and WebSocket in a second header",
      [[400]],
      () => requestText(welcome(), { ...UPGRADE, Upgrade: ["h2c", "websocket"] }) + HIDDEN,
    ],
    [
      "after a connection that upgrades nothing",
      [[400]],
      () => requestText(welcome(), { ...UPGRADE, Connection: "keep-alive" }) + HIDDEN,
    ],
  ];

  for (const [what, allowed, bytes] of cases) {
    it(`[D12] ${what}: no node executes one`, async () => {
      const { statuses, text } = await exchange(nginx().url, bytes());
      expect(allowed, text).to.deep.include(statuses);
      await nothingWasPublished();
    });
  }

  it("[D12] a node is never asked for any other upgrade than WebSocket to Engine.IO", async () => {
    const recorder = await openRecorder();
    const through = await startNginx([recorder.port]);
    const upgrades: [string, Record<string, string | string[]>, string?][] = [
      [welcome(), { ...UPGRADE, Upgrade: "h2c" }],
      [welcome(), { ...UPGRADE, Upgrade: "websocket, h2c" }],
      [welcome(), { ...UPGRADE, Upgrade: "websocket/13" }],
      [welcome(), { ...UPGRADE, Upgrade: "xwebsocket" }],
      [welcome(), { ...UPGRADE, Upgrade: ["h2c", "websocket"] }],
      [welcome(), { ...UPGRADE, Upgrade: "websocket:0::upgrade" }],
      // What looks like the fields that are checked, in one that a client may spell as it likes.
      [welcome(), { ...UPGRADE, ...LENGTH, Upgrade: "websocket:::upgrade," }, HIDDEN],
      [welcome(), { ...UPGRADE, ...CHUNKED, Upgrade: "websocket:::upgrade," }, CHUNK],
      [welcome(), { ...UPGRADE, ...LENGTH, Connection: "close:::websocket:upgrade" }, HIDDEN],
      [welcome(), { ...UPGRADE, Connection: "notupgrade" }],
      [welcome(), { ...UPGRADE, ...LENGTH }, HIDDEN],
      [welcome(), { ...UPGRADE, ...CHUNKED }, CHUNK],
      [welcome(), { ...UPGRADE, "Content-Length": "00" }],
      [welcome().replace("GET", "POST"), { ...UPGRADE, "Content-Length": "0" }],
      [welcome().replace("GET", "OPTIONS"), UPGRADE],
      ["GET /", UPGRADE],
      ["GET /readyz", UPGRADE],
      ["GET /assets/socket.io/", UPGRADE],
    ];
    for (const [line, headers, body] of upgrades) {
      recorder.asked.length = 0;
      // Without an upgrade nginx keeps the connection.
      await exchange(through.url, requestText(line, headers, body) + LAST);
      const [first] = recorder.asked;
      const what = `${line} ${JSON.stringify(headers)}`;
      if (!first) continue;
      expect(first.req.headers, what).not.to.have.property("upgrade");
      expect(first.req.headers.connection, what).not.to.equal("upgrade");
    }
    recorder.asked.length = 0;
    await exchange(through.url, requestText(welcome(), { ...UPGRADE, Upgrade: "WebSocket" }));
    expect(recorder.asked[0]?.req.headers).to.include({ upgrade: "websocket", connection: "upgrade" });
  });
});
