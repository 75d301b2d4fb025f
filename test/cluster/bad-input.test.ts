import { connect } from "node:net";
import type { Code } from "@agentwire/shared";
import { codes, SEQUENCE_START } from "@agentwire/shared";
import { expect } from "chai";
import { sharedCluster } from "../harness/cluster.js";
import { SERVICE_KEY } from "../harness/token.js";
import type { Viewer } from "../harness/viewer.js";
import { until } from "../harness/wait.js";

const NEXT_KEY = "the-key-that-comes-next";
const MUCH = "x".repeat(2 * 1024 * 1024);
const event = (more: object = {}) => ({
  event_type: "AGENT_STATUS_CHANGED",
  agent_id: "a1",
  project_id: "p1",
  payload: { new_status: "working" },
  ...more,
});
const message = (more: object = {}) => ({
  event_type: "AGENT_STATUS_CHANGED",
  entity_type: "agent",
  entity_id: "a1",
  payload: { project_id: "p1", new_status: "working" },
  ...more,
});
/** What must not be an id. `undefined` leaves it out. */
const badIds = [undefined, null, 7, "", "a 1", "a\n1", "a\u00001", "ä", "a:1", "a".repeat(129), ["a1"]];

describe("bad input", () => {
  const cluster = sharedCluster({
    nodes: 2,
    // One viewer asks here more often than is allowed.
    settings: {
      INTERNAL_SERVICE_KEY: `${SERVICE_KEY}, ${NEXT_KEY}`,
      WS_SUBSCRIPTION_UPDATES_PER_SECOND: "0",
    },
  });

  /** All that a publish can change. */
  const state = async () => {
    const { client, keys } = cluster();
    const redis = client();
    const entries = await redis.xrange(keys.events, "-", "+");
    return {
      durable: entries.filter(([, fields]) => fields.includes("prev")).map(([id]) => id),
      head: (await redis.get(keys.head)) ?? SEQUENCE_START,
      known: (await redis.keys("ws:*")).filter((key) => /^ws:(agents?|event|replay):/.test(key)).sort(),
    };
  };

  const refused = async (answer: Response, code: Code, about = "") => {
    const { status, retry } = codes[code];
    const { error } = (await answer.json()) as { error: { code: string; message: string; retry: string } };
    expect({ status: answer.status, ...error }, about).to.include({ status, code, retry });
    return error.message;
  };

  /** A good event comes after what was refused, and it is the first that the viewer sees. */
  const onlyGoodComes = async (viewer: Viewer) => {
    const answer = await cluster().post(event({ agent_id: "good" }));
    expect(answer.status).to.equal(202);
    await viewer.sees("the good event", () => viewer.raw.length > 0);
    expect(viewer.raw.map(({ payload }) => payload.agent_id)).to.deep.equal(["good"]);
  };

  describe("over HTTP", () => {
    it("[D13] a body that is no event is refused with a code that names the field, and changes nothing", async () => {
      const { viewer, post } = cluster();
      const watching = await (await viewer({})).joined();
      const before = await state();

      const bad: [string, unknown][] = [
        ["event_type", event({ event_type: "NOPE" })],
        ["event_type", event({ event_type: "constructor" })],
        ["event_type", event({ event_type: undefined })],
        ["payload", event({ payload: undefined })],
        ["payload", event({ payload: "working" })],
        ["payload", event({ payload: ["working"] })],
        ["new_status", event({ payload: {} })],
        ["new_status", event({ payload: { new_status: "dancing" } })],
        ["old_status", event({ payload: { new_status: "idle", old_status: "dancing" } })],
        ["progress", event({ payload: { new_status: "idle", progress: 101 } })],
        ["attempt", event({ payload: { new_status: "idle", attempt: 0.5 } })],
        ["message", event({ payload: { new_status: "idle", message: "x".repeat(16_385) } })],
        ["agent_id", event({ payload: { new_status: "idle", agent_id: "a2" } })],
        ["project_id", event({ payload: { new_status: "idle", project_id: "p2" } })],
        ["event_id", event({ event_id: "e1", payload: { new_status: "idle", event_id: "e2" } })],
        ["body", []],
        ...badIds.flatMap((id): [string, unknown][] => [
          ["agent_id", event({ agent_id: id })],
          ["project_id", event({ project_id: id })],
          ...(id === undefined ? [] : ([["task_id", event({ task_id: id })]] as [string, unknown][])),
        ]),
      ];
      for (const [field, body] of bad) {
        const about = JSON.stringify(body).slice(0, 200);
        expect(await refused(await post(body), "INVALID_EVENT", about), about).to.include(field);
      }
      expect(await state()).to.deep.equal(before);
      await onlyGoodComes(watching);
    });

    it("[D13] what is no JSON: 400 BAD_REQUEST; 2 MB: 413; no key: 401; a wrong key: 403; no POST: 4xx", async () => {
      const { viewer, post, node } = cluster();
      const watching = await (await viewer({})).joined();
      const before = await state();
      const text = JSON.stringify(event());

      for (const raw of [
        text.slice(0, -1),
        "null",
        "7",
        '"text"',
        "<xml/>",
        text.replace("a1", "a\u00001"),
      ]) {
        await refused(await post(raw, { raw: true }), "BAD_REQUEST", raw);
      }
      await refused(await post("", { raw: true }), "INVALID_EVENT");
      await refused(
        await post(event({ payload: { new_status: "idle", message: MUCH } })),
        "PAYLOAD_TOO_LARGE",
      );
      await refused(await post(event(), { key: null }), "UNAUTHORIZED");
      for (const key of ["wrong", `${SERVICE_KEY}x`, SERVICE_KEY.slice(1), `${SERVICE_KEY}, ${NEXT_KEY}`]) {
        await refused(await post(event(), { key }), "FORBIDDEN", key);
      }
      for (const method of ["GET", "PUT", "DELETE"]) {
        const answer = await fetch(`${node(1).url}/api/v1/internal/ws/publish`, { method });
        await refused(answer, "BAD_REQUEST", method);
      }
      expect(await state()).to.deep.equal(before);
      await onlyGoodComes(watching);
    });

    it("[D13] a request line that is no address: 400, and the node lives", async () => {
      const { node } = cluster();
      for (const more of ["", "Connection: Upgrade\r\nUpgrade: websocket\r\n"]) {
        const socket = connect(node(1).port, "127.0.0.1");
        socket.write(`GET //[ HTTP/1.1\r\nHost: node\r\n${more || "Connection: close\r\n"}\r\n`);
        expect(Buffer.concat(await socket.toArray()).toString()).to.match(/^HTTP\/1\.1 400 .*"BAD_REQUEST"/s);
      }
      expect(await node(1).readyz()).to.equal(200);
    });

    it("[D13] while keys rotate, the old one and the new one are both good", async () => {
      for (const key of [SERVICE_KEY, NEXT_KEY]) {
        expect((await cluster().post(event(), { key })).status).to.equal(202);
      }
    });
  });

  const badMessages: [string, Code, string][] = [
    ["no JSON", "BAD_REQUEST", "working"],
    ["an empty message", "BAD_REQUEST", ""],
    ["a bare control character", "BAD_REQUEST", JSON.stringify(message()).replace("a1", "a\u00001")],
    ["null", "INVALID_EVENT", "null"],
    ["an array", "INVALID_EVENT", JSON.stringify([message()])],
    ["another event", "INVALID_EVENT", JSON.stringify(message({ event_type: "NOPE" }))],
    ["another entity", "INVALID_EVENT", JSON.stringify(message({ entity_type: "task" }))],
    ["no entity", "INVALID_EVENT", JSON.stringify(message({ entity_id: undefined }))],
    ["a payload that is text", "INVALID_EVENT", JSON.stringify(message({ payload: "working" }))],
    [
      "an unknown status",
      "INVALID_EVENT",
      JSON.stringify(message({ payload: { project_id: "p1", new_status: "x" } })),
    ],
    ["no project", "INVALID_EVENT", JSON.stringify(message({ payload: { new_status: "working" } }))],
    ["an escaped control character", "INVALID_EVENT", JSON.stringify(message({ entity_id: "a\u00001" }))],
    ["an id of 129 characters", "INVALID_EVENT", JSON.stringify(message({ entity_id: "a".repeat(129) }))],
    ["a bad event id", "INVALID_EVENT", JSON.stringify(message({ event_id: "e 1" }))],
    [
      "a sequence_id of its own that is none",
      "INVALID_EVENT",
      JSON.stringify(message({ sequence_id: "first" })),
    ],
    [
      "contradicting agents",
      "INVALID_EVENT",
      JSON.stringify(message({ payload: { project_id: "p1", new_status: "idle", agent_id: "a2" } })),
    ],
    [
      "2 MB",
      "PAYLOAD_TOO_LARGE",
      JSON.stringify(message({ payload: { project_id: "p1", new_status: "idle", message: MUCH } })),
    ],
  ];
  describe("on the event bus", () => {
    for (const [what, code, text] of badMessages) {
      it(`[D13] ${what}: one log line with ${code} on each node, and nothing else`, async () => {
        const { viewer, client, keys, nodes } = cluster();
        const watching = await (await viewer({})).joined();
        const before = await state();
        const warned = nodes.map(({ log }) => log.length);
        await client().publish(keys.bus("AGENT_STATUS_CHANGED"), text);
        const lines = () =>
          nodes.map(({ log }, n) => log.slice(warned[n]).filter(({ msg }) => msg === "bus message refused"));
        await until("a log line on each node", () => lines().every(({ length }) => length > 0));
        expect(await state()).to.deep.equal(before);
        await onlyGoodComes(watching);
        for (const line of lines())
          expect(line.map(({ level, code }) => [level, code])).to.deep.equal([[40, code]]);
        for (const one of nodes) expect(await one.readyz()).to.equal(200);
      });
    }
  });

  describe("from a viewer", () => {
    const badFilters: [string, unknown, Code][] = [
      ["ids that are no list", { agent_ids: "a1" }, "INVALID_FILTER"],
      ["ids that are no text", { agent_ids: [1] }, "INVALID_FILTER"],
      ["an id with a control character", { agent_ids: ["a\u0000"] }, "INVALID_FILTER"],
      ["51 ids", { agent_ids: Array.from({ length: 51 }, (_, n) => `a${n}`) }, "INVALID_FILTER"],
      ["an unknown event type", { event_types: ["NOPE"] }, "INVALID_FILTER"],
      ["an unknown filter", { agents: ["a1"] }, "INVALID_FILTER"],
      ["a foreign project", { project_ids: ["p2"] }, "FORBIDDEN"],
      ["a foreign project beside an own one", { project_ids: ["p1", "p2"] }, "FORBIDDEN"],
    ];

    it("[D13][D4] a bad filter is answered with a code, without acknowledgement by ERROR; the filters and the connection stay", async () => {
      const { viewer, post, client, keys } = cluster();
      const watching = await (await viewer({ query: { agent_ids: "good" } })).joined();
      const { socket } = watching;
      for (const [what, filters, code] of badFilters) {
        const answer = await watching.subscribe(filters);
        expect(answer, what).to.deep.equal({ ok: false, error: { code, message: answer.error?.message } });
        expect(answer.error?.message, what).to.be.a("string").and.not.equal("");
      }
      for (const [n, [what, filters, code]] of badFilters.entries()) {
        socket.emit("SUBSCRIBE", filters);
        await watching.sees(`the ERROR about ${what}`, () => watching.payloads("ERROR").length > n);
        expect(watching.payloads("ERROR")[n], what).to.include({ code, retry: "never" });
      }
      expect(watching.payloads("FILTERS_UPDATED")).to.deep.equal([]);
      const record = await client().hget(keys.connection(socket.id as string), "filters");
      expect(JSON.parse(record ?? "")).to.deep.equal({
        agent_ids: ["good"],
        project_ids: [],
        event_types: [],
      });
      expect((await post(event({ agent_id: "a2" }))).status).to.equal(202);
      await onlyGoodComes(watching);
      expect(watching.connects).to.deep.equal([false]);
    });

    it("[D13] a message of 2 MB closes the connection it came on, and no other", async () => {
      const { viewer, post, node } = cluster();
      const loud = await (await viewer({ socket: { reconnection: false } })).joined();
      const quiet = await (await viewer({ user: "user-2" })).joined();
      loud.socket.emit("SUBSCRIBE", { agent_ids: [MUCH] });
      await loud.sees("it is closed", () => loud.disconnects > 0);
      expect((await post(event({ agent_id: "good" }))).status).to.equal(202);
      await quiet.sees("the good event", () => quiet.raw.length > 0);
      expect(quiet.connects).to.have.length(1);
      expect(await node(1).readyz()).to.equal(200);
    });
  });
});
