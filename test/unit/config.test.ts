import { spawn } from "node:child_process";
import { once } from "node:events";
import { text } from "node:stream/consumers";
import { fileURLToPath } from "node:url";
import { expect } from "chai";
import { readConfig, settings } from "../../server/src/config.js";

const MAIN = fileURLToPath(new URL("../../server/dist/main.js", import.meta.url));
const needed = { JWT_SECRET: "a-secret" };

/** What each setting must not be, and what is said about it. Free text cannot be bad. */
const bad: Record<keyof typeof settings, [value: string, about: string][]> = {
  PORT: [
    ["abc", "a whole number"],
    ["-1", "a whole number"],
    ["80.5", "a whole number"],
    [" 80", "a whole number"],
    ["65536", "at most 65535"],
  ],
  HOST: [],
  INSTANCE_ID: [
    ["a b", "1 to 64 characters"],
    ["x".repeat(65), "1 to 64 characters"],
  ],
  REDIS_URL: [
    ["localhost:6379", "redis://"],
    ["http://localhost", "redis://"],
    ["redis://[", "redis://"],
  ],
  JWT_SECRET: [["", "is required"]],
  JWT_AUDIENCE: [],
  JWT_ISSUER: [],
  INTERNAL_SERVICE_KEY: [],
  CORS_ORIGINS: [
    ["app.example.com", "is not an origin"],
    ["https://app.example.com/", "is not an origin"],
    ["https://app.example.com,https://app.example.com/path", "is not an origin"],
    ["https://a.example.com\nhttps://b.example.com", "is not an origin"],
  ],
  WS_KEY_PREFIX: [["a b", "1 to 64 characters"]],
  EVENT_BUS_PREFIX: [["x".repeat(65), "64 characters"]],
  LOG_LEVEL: [["loud", "warn"]],
  WS_HEARTBEAT_INTERVAL: [["0", "at least 1"]],
  WS_HEARTBEAT_TIMEOUT: [["3601", "at most 3600"]],
  WS_HEARTBEAT_MAX_MISSED: [["0", "at least 1"]],
  WS_REPLAY_WINDOW_SECONDS: [["0", "at least 1"]],
  WS_MAX_REPLAY_MESSAGES: [["100001", "at most 100000"]],
  WS_RATE_LIMIT_PER_CONNECTION: [
    ["10001", "at most 10000"],
    ["1/s", "a whole number"],
  ],
  WS_RATE_LIMIT_GLOBAL: [["100000001", "at most 100000000"]],
  WS_QUEUE_TTL: [["0", "at least 1"]],
  WS_SEND_BUFFER_SIZE: [["0", "at least 1"]],
  WS_SEND_BUFFER_BYTES: [["1023", "at least 1024"]],
  WS_MAX_FILTER_IDS: [["0", "at least 1"]],
  WS_MAX_MESSAGE_BYTES: [["1023", "at least 1024"]],
};

describe("settings", () => {
  it("[D18] what is absent is as documented", () => {
    const { INSTANCE_ID, ...config } = readConfig(needed);
    expect(INSTANCE_ID).to.match(/^node-[0-9a-f]{8}$/);
    expect(readConfig(needed).INSTANCE_ID).not.to.equal(INSTANCE_ID);
    expect(config).to.deep.equal({
      PORT: 8080,
      HOST: "0.0.0.0",
      REDIS_URL: "redis://127.0.0.1:6379",
      JWT_SECRET: "a-secret",
      JWT_AUDIENCE: "authenticated",
      INTERNAL_SERVICE_KEY: [],
      CORS_ORIGINS: [],
      WS_KEY_PREFIX: "ws",
      EVENT_BUS_PREFIX: "events:",
      LOG_LEVEL: "info",
      WS_HEARTBEAT_INTERVAL: 30,
      WS_HEARTBEAT_TIMEOUT: 10,
      WS_HEARTBEAT_MAX_MISSED: 3,
      WS_REPLAY_WINDOW_SECONDS: 300,
      WS_MAX_REPLAY_MESSAGES: 1000,
      WS_RATE_LIMIT_PER_CONNECTION: 100,
      WS_RATE_LIMIT_GLOBAL: 10_000,
      WS_QUEUE_TTL: 5,
      WS_SEND_BUFFER_SIZE: 100,
      WS_SEND_BUFFER_BYTES: 1_048_576,
      WS_MAX_FILTER_IDS: 50,
      WS_MAX_MESSAGE_BYTES: 1_048_576,
    });
  });

  it("[D18] an empty value counts as absent, and what is no setting is left alone", () => {
    const empty = Object.fromEntries(Object.keys(settings).map((name) => [name, ""]));
    const given = { ...empty, ...needed, INSTANCE_ID: "node-1" };
    expect(readConfig({ ...given, PATH: "/bin", toString: "x" } as NodeJS.ProcessEnv)).to.deep.equal(
      readConfig({ ...needed, INSTANCE_ID: "node-1" }),
    );
  });

  it("[D18] what is given is taken: numbers, lists without blanks, origins, prefixes", () => {
    const config = readConfig({
      ...needed,
      PORT: "0",
      INTERNAL_SERVICE_KEY: " one, two ,,",
      CORS_ORIGINS: "https://app.example.com,http://127.0.0.1:5173, *",
      REDIS_URL: "rediss://user:pass@redis.example.com:6380/2",
      WS_KEY_PREFIX: "{ws}",
    });
    expect(config).to.deep.include({
      PORT: 0,
      INTERNAL_SERVICE_KEY: ["one", "two"],
      CORS_ORIGINS: ["https://app.example.com", "http://127.0.0.1:5173", "*"],
      REDIS_URL: "rediss://user:pass@redis.example.com:6380/2",
      WS_KEY_PREFIX: "{ws}",
    });
  });

  for (const [name, values] of Object.entries(bad)) {
    for (const [value, about] of values) {
      it(`[D18] ${name}=${JSON.stringify(value).slice(0, 70)} is one line that names it`, () => {
        expect(() => readConfig({ ...needed, [name]: value }))
          .to.throw(Error)
          .with.property("message")
          .that.matches(new RegExp(`^bad settings: ${name} [^\n]*$`))
          .and.includes(about);
      });
    }
  }

  it("[D18] several bad ones are named in the same line", () => {
    expect(() => readConfig({ PORT: "abc", LOG_LEVEL: "loud" }))
      .to.throw(Error)
      .with.property("message")
      .that.matches(/^bad settings: PORT [^;\n]+; JWT_SECRET is required; LOG_LEVEL [^;\n]+$/);
  });

  const starts: [string, NodeJS.ProcessEnv, RegExp][] = [
    ["PORT=abc", { ...needed, PORT: "abc" }, /^agentwire: bad settings: PORT [^\n]+\n$/],
    ["no JWT_SECRET", {}, /^agentwire: bad settings: JWT_SECRET is required\n$/],
  ];
  for (const [what, env, said] of starts) {
    it(`[D18] a node with ${what} says so in one line on stderr and ends with 2`, async () => {
      const child = spawn(process.execPath, [MAIN], { env: { PATH: process.env.PATH, ...env } });
      const [out, err, [code]] = await Promise.all([
        text(child.stdout),
        text(child.stderr),
        once(child, "exit"),
      ]);
      expect({ out, code }).to.deep.equal({ out: "", code: 2 });
      expect(err).to.match(said);
    });
  }
});
