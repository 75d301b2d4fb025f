import { readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { codes, type EventDefinition, events, Id, Status, statuses } from "@agentwire/shared";
import { expect } from "chai";
import { z } from "zod";
import { settings } from "../../server/src/config.js";
import { itsTable, ROOT, table } from "./docs-table.js";

const FILE = "docs/protocol.md";
const definitions: [string, EventDefinition][] = Object.entries(events as Record<string, EventDefinition>);

/** What runs on the side of the server, to see what is said by anybody. */
const sources = ["server/src", "shared/src/redis", "emitter/src"]
  .flatMap((folder) =>
    readdirSync(join(ROOT, folder), { recursive: true, encoding: "utf8" })
      .filter((name) => name.endsWith(".ts"))
      .map((name) => readFileSync(join(ROOT, folder, name), "utf8")),
  )
  .join("\n");
const saidBy = (calls: string) =>
  new Set(
    [...sources.matchAll(new RegExp(`\\b(?:${calls})\\(\\s*"([A-Z_]+)"`, "g"))].map(([, name]) => name),
  );
const sent = saidBy("say|stamp");
const given = new Set([
  ...saidBy("refusal|connectError|AgentwireError|PublishError"),
  // A verdict about places carries its code.
  ...[...sources.matchAll(/\bcode: "([A-Z_]+)"/g)].map(([, code]) => code),
]);

/** Parts of payloads that have a name in the text. */
const named = new Map<unknown, string>([
  [Id, "id"],
  [Status, "status"],
  [events.REPLAY_START.payload.shape.from, "place"],
  [events.ERROR.payload.shape.code, "code"],
  [events.TERMINAL_OUTPUT.payload.shape.data, "bytes"],
]);

type Schema = z.core.JSONSchema.JSONSchema;

function typeOf({ title, type, enum: values, anyOf, items, properties, required }: Schema): string {
  if (title) return title;
  if (values) return values.map((value) => `\`${value}\``).join(" or ");
  if (anyOf) return anyOf.map((one) => typeOf(one as Schema)).join(" or ");
  if (type === "array") return `list of ${typeOf(items as Schema)}`;
  if (type === "object") return `{ ${fieldsOf({ properties, required } as Schema)} }`;
  return String(type);
}

const fieldsOf = ({ properties = {}, required = [] }: Schema): string =>
  Object.entries(properties)
    .map(([name, type]) => `\`${name}${required.includes(name) ? "" : "?"}\` ${typeOf(type as Schema)}`)
    .join(", ");

function payloadOf(payload: z.ZodType): string {
  const schema = z.toJSONSchema(payload, {
    unrepresentable: "any",
    override({ zodSchema, jsonSchema }) {
      const name = named.get(zodSchema);
      if (name) jsonSchema.title = name;
    },
  });
  return fieldsOf(schema as Schema);
}

/** Where it depends on the payload, it depends on the new status. */
function priorityOf({ priority }: EventDefinition): string {
  const wanted = statuses.map((new_status) => priority({ new_status }));
  const found = [...new Set(wanted)];
  if (found.length === 1) return found.join();
  const to = (name: string) => statuses.filter((_, n) => wanted[n] === name).map((status) => `\`${status}\``);
  return found.map((name) => `${name} (to ${to(name).join(", ")})`).join(", ");
}

const tables = {
  codes: table(
    ["code", "HTTP status", "retry", "message", "given"],
    Object.entries(codes).map(([code, { status, retry, message }]) => [
      `\`${code}\``,
      String(status),
      `\`${retry}\``,
      message,
      given.has(code) ? "yes" : "not yet",
    ]),
  ),
  events: table(
    ["event", "namespace", "delivery", "priority", "payload", "about", "sent"],
    definitions.map(([name, definition]) => [
      `\`${name}\``,
      definition.namespace,
      `\`${definition.delivery}\``,
      priorityOf(definition),
      payloadOf(definition.payload),
      definition.about,
      sent.has(name) ? "yes" : "not yet",
    ]),
  ),
};

describe("docs/protocol.md", () => {
  const read = () => readFileSync(join(ROOT, FILE), "utf8");

  for (const [name, made] of Object.entries(tables)) itsTable(FILE, name, made);

  it("[contract] it names every event that nothing sends yet, and no other, at its end", () => {
    const end = read().split("\n## Not yet\n")[1] ?? "";
    const listed = [...(end.split(". Refused:")[0] ?? "").matchAll(/`([A-Z_]+)`/g)].map(([, name]) => name);
    const missing = definitions.map(([name]) => name).filter((name) => !sent.has(name));
    expect(listed).to.have.members(missing);
    expect(sent).to.include.keys("READY", "AGENT_STATUS_CHANGED", "ERROR");
  });

  it("[contract] every code and event that its text names exists", () => {
    const words = new Set([...read().matchAll(/`([A-Z]+(?:_[A-Z]+)+)`/g)].map(([, word = ""]) => word));
    const known = [...Object.keys(codes), ...definitions.map(([name]) => name), ...Object.keys(settings)];
    const others = [...words].filter((word) => !known.includes(word)).sort();
    // A packet of Socket.IO's, what clients send, and a filter.
    expect(others).to.deep.equal(["CONNECT_ERROR", "PAUSE_STREAM", "RESUME_STREAM", "STATUS_CHANGED"]);
  });
});
