// Long: one table, of what each setting must not be.
import { spawn } from "node:child_process";
import { once } from "node:events";
import { text } from "node:stream/consumers";
import { fileURLToPath } from "node:url";
import { redisAddress } from "@agentwire/shared/redis";
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
  ADMIN_PORT: [
    ["admin", "a whole number"],
    ["65536", "at most 65535"],
  ],
  ADMIN_HOST: [],
  ADMIN_USERNAME: [["x".repeat(257), "256 characters"]],
  ADMIN_PASSWORD: [["x".repeat(257), "256 characters"]],
  ADMIN_READONLY: [
    ["yes", "true or false"],
    ["TRUE", "true or false"],
    ["0", "true or false"],
  ],
  INSTANCE_ID: [
    ["a b", "1 to 64 characters"],
    ["x".repeat(65), "1 to 64 characters"],
  ],
  REDIS_URL: [
    ["localhost:6379", "redis://"],
    ["http://localhost", "redis://"],
    ["redis://[", "redis://"],
  ],
  REDIS_SENTINELS: [
    "10.0.0.1",
    "10.0.0.1:0",
    "10.0.0.1:65536",
    "a:1,",
    "a:1;b:2",
    "a b:1",
    "redis://a:1",
    "::1:1",
  ].map((value): [string, string] => [value, "addresses such as"]),
  REDIS_SENTINEL_NAME: [],
  REDIS_SENTINEL_PASSWORD: [],
  REDIS_CLUSTER_NODES: ["10.0.0.1", "a:1,,b:2", "redis://:secret@a:1", "[a:1", "[::1]"].map(
    (value): [string, string] => [value, "addresses such as"],
  ),
  REDIS_USERNAME: [["agentwire", "REDIS_URL says it itself"]],
  REDIS_PASSWORD: [["secret", "REDIS_URL says it itself"]],
  REDIS_TLS: [
    ["yes", "true or false"],
    ["true", "REDIS_URL says it itself"],
  ],
  JWT_SECRET: [["", "is required"]],
  SUPABASE_URL: [
    ["project.supabase.co", "https://"],
    ["ftp://project.supabase.co", "https://"],
    ["https://", "https://"],
  ],
  JWT_JWKS_URL: [
    ["file:///etc/keys.json", "https://"],
    ["/keys.json", "https://"],
  ],
  JWT_AUDIENCE: [],
  JWT_ISSUER: [],
  DATABASE_URL: [
    ["localhost:5432/app", "postgres://"],
    ["mysql://localhost/app", "postgresql://"],
  ],
  DATABASE_PROJECTS_QUERY: [],
  DATABASE_POOL_SIZE: [
    ["0", "at least 1"],
    ["101", "at most 100"],
  ],
  INTERNAL_SERVICE_KEY: [],
  CORS_ORIGINS: [
    ["app.example.com", "is not an origin"],
    ["https://app.example.com/", "is not an origin"],
    ["https://app.example.com,https://app.example.com/path", "is not an origin"],
    ["https://a.example.com\nhttps://b.example.com", "is not an origin"],
  ],
  TRUSTED_PROXIES: [
    "10.0.0.0/33",
    "10.0.0.0/-1",
    "10.0.0.0/",
    "10.0.0.0/8/8",
    "10.0.0.0 /8",
    "10.0.0/8",
    "10.0.0.256",
    "010.0.0.1",
    "10.0.0.0/255.0.0.0",
    "fd00::/129",
    "fd00::/x",
    "fd00::1::2",
    "[fd00::1]",
    "/8",
    "*",
    "loopback",
    "proxy.example.com",
    "10.0.0.1,,10.0.0.0/33",
    "10.0.0.1 10.0.0.2",
    "10.0.0.1\n10.0.0.2",
  ].map((value): [string, string] => [value, "is not an address or a network"]),
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
  WS_PROGRESS_BATCH_MS: [
    ["-1", "whole number"],
    ["60001", "at most 60000"],
  ],
  WS_QUEUE_TTL: [["0", "at least 1"]],
  WS_DRAIN_TIMEOUT: [["3601", "at most 3600"]],
  WS_SEND_BUFFER_SIZE: [["0", "at least 1"]],
  WS_SEND_BUFFER_BYTES: [["1023", "at least 1024"]],
  WS_TERMINAL_BYTES_PER_SECOND: [["1073741825", "at most 1073741824"]],
  WS_MAX_CONNECTIONS: [["10000001", "at most 10000000"]],
  WS_MAX_CONNECTIONS_PER_USER: [["100001", "at most 100000"]],
  WS_CONNECTIONS_PER_IP_PER_MINUTE: [["1000001", "at most 1000000"]],
  WS_SUBSCRIPTION_UPDATES_PER_SECOND: [["10001", "at most 10000"]],
  WS_MAX_FILTER_IDS: [
    ["0", "at least 1"],
    ["1001", "at most 1000"],
  ],
  WS_MAX_MESSAGE_BYTES: [["1023", "at least 1024"]],
  WS_AUDIT_ENTRIES: [["0", "at least 1"]],
};

describe("settings", () => {
  it("[D18] what is absent is as documented", () => {
    const { INSTANCE_ID, ...config } = readConfig(needed);
    expect(INSTANCE_ID).to.match(/^node-[0-9a-f]{8}$/);
    expect(readConfig(needed).INSTANCE_ID).not.to.equal(INSTANCE_ID);
    expect(config).to.deep.equal({
      PORT: 8080,
      HOST: "0.0.0.0",
      ADMIN_PORT: 9090,
      ADMIN_HOST: "127.0.0.1",
      ADMIN_READONLY: true,
      REDIS_URL: "redis://127.0.0.1:6379",
      REDIS_TLS: false,
      JWT_SECRET: "a-secret",
      JWT_AUDIENCE: "authenticated",
      DATABASE_PROJECTS_QUERY: "select id from projects",
      DATABASE_POOL_SIZE: 5,
      INTERNAL_SERVICE_KEY: [],
      CORS_ORIGINS: [],
      TRUSTED_PROXIES: [],
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
      WS_PROGRESS_BATCH_MS: 100,
      WS_QUEUE_TTL: 5,
      WS_DRAIN_TIMEOUT: 30,
      WS_SEND_BUFFER_SIZE: 100,
      WS_SEND_BUFFER_BYTES: 1_048_576,
      WS_TERMINAL_BYTES_PER_SECOND: 1_048_576,
      WS_MAX_CONNECTIONS: 10_000,
      WS_MAX_CONNECTIONS_PER_USER: 5,
      WS_CONNECTIONS_PER_IP_PER_MINUTE: 10,
      WS_SUBSCRIPTION_UPDATES_PER_SECOND: 10,
      WS_MAX_FILTER_IDS: 50,
      WS_MAX_MESSAGE_BYTES: 1_048_576,
      WS_AUDIT_ENTRIES: 10_000,
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

  it("[D18] 0 turns a limit off, where a limit can be off", () => {
    const limits = [
      "WS_RATE_LIMIT_PER_CONNECTION",
      "WS_RATE_LIMIT_GLOBAL",
      "WS_MAX_CONNECTIONS",
      "WS_MAX_CONNECTIONS_PER_USER",
      "WS_CONNECTIONS_PER_IP_PER_MINUTE",
      "WS_SUBSCRIPTION_UPDATES_PER_SECOND",
    ] as const;
    const config = readConfig({ ...needed, ...Object.fromEntries(limits.map((name) => [name, "0"])) });
    for (const name of limits) expect(config[name], name).to.equal(0);
  });

  const keys = {
    JWT_SECRET: "a-secret",
    SUPABASE_URL: "https://project.supabase.co",
    JWT_JWKS_URL: "http://127.0.0.1:9999/keys.json",
  };
  for (const [name, value] of Object.entries(keys)) {
    it(`[D18] ${name} alone says how tokens are checked`, () => {
      expect(readConfig({ [name]: value })).to.include({ [name]: value });
    });
  }

  it("[D18] without a way to check tokens nothing starts, and all three are named", () => {
    expect(() => readConfig({})).to.throw(
      "bad settings: JWT_SECRET is required, or SUPABASE_URL, or JWT_JWKS_URL",
    );
  });

  it("[D18] ADMIN_USERNAME and ADMIN_PASSWORD come together or not at all", () => {
    const [user, password] = [{ ADMIN_USERNAME: "root" }, { ADMIN_PASSWORD: "the-password" }];
    expect(readConfig({ ...needed, ...user, ...password })).to.include({ ...user, ...password });
    expect(() => readConfig({ ...needed, ...user })).to.throw(
      /^bad settings: ADMIN_PASSWORD is required with ADMIN_USERNAME$/,
    );
    expect(() => readConfig({ ...needed, ...password, ADMIN_USERNAME: "" })).to.throw(
      /^bad settings: ADMIN_USERNAME is required with ADMIN_PASSWORD$/,
    );
  });

  const sentinels = { REDIS_SENTINELS: "10.0.0.1:26379, s2.example.com:26379", REDIS_SENTINEL_NAME: "main" };
  const cluster = { REDIS_CLUSTER_NODES: "10.0.0.1:6379,[fd00::1]:6380" };

  it("[D18] where Redis is: a URL, Sentinels or a Cluster, with what belongs to each", () => {
    const login = { REDIS_USERNAME: "app", REDIS_PASSWORD: "secret", REDIS_TLS: "true" };
    const of = (env: NodeJS.ProcessEnv) => redisAddress(readConfig({ ...needed, ...env }));
    expect(of({})).to.deep.equal({ kind: "url", url: "redis://127.0.0.1:6379" });
    expect(of({ ...sentinels, ...login, REDIS_SENTINEL_PASSWORD: "another" })).to.deep.equal({
      kind: "sentinel",
      sentinels: [
        { host: "10.0.0.1", port: 26379 },
        { host: "s2.example.com", port: 26379 },
      ],
      name: "main",
      sentinelPassword: "another",
      username: "app",
      password: "secret",
      tls: {},
    });
    expect(of({ ...cluster, REDIS_PASSWORD: "secret" })).to.deep.equal({
      kind: "cluster",
      nodes: [
        { host: "10.0.0.1", port: 6379 },
        { host: "fd00::1", port: 6380 },
      ],
      username: undefined,
      password: "secret",
      tls: undefined,
    });
  });

  const together: [NodeJS.ProcessEnv, string][] = [
    [
      { ...sentinels, REDIS_URL: "redis://127.0.0.1:6379" },
      "REDIS_URL and REDIS_SENTINELS: only one of these may be given",
    ],
    [{ ...sentinels, ...cluster }, "REDIS_SENTINELS and REDIS_CLUSTER_NODES: only one of these may be given"],
    [{ ...sentinels, REDIS_SENTINEL_NAME: "" }, "REDIS_SENTINEL_NAME is required with REDIS_SENTINELS"],
    [{ REDIS_SENTINEL_NAME: "main" }, "REDIS_SENTINELS is required with REDIS_SENTINEL_NAME"],
    [
      { ...cluster, REDIS_SENTINEL_PASSWORD: "hunter2" },
      "REDIS_SENTINELS is required with REDIS_SENTINEL_PASSWORD",
    ],
    ...["ws", "ws{}", "{}{ws}", "ws}{", "{ws"].map((prefix): [NodeJS.ProcessEnv, string] => [
      { ...cluster, WS_KEY_PREFIX: prefix },
      "WS_KEY_PREFIX must have a part in braces with REDIS_CLUSTER_NODES, such as {ws}",
    ]),
  ];
  for (const [env, line] of together) {
    it(`[D18] ${Object.keys(env).join(", ")}: ${line}`, () => {
      expect(() => readConfig({ ...needed, ...env })).to.throw(`bad settings: ${line}`);
    });
  }

  it("[D18] in a Cluster the prefix keeps all keys in one slot", () => {
    const prefix = (env: NodeJS.ProcessEnv) => readConfig({ ...needed, ...env }).WS_KEY_PREFIX;
    expect(prefix(cluster)).to.equal("{ws}");
    expect(prefix({ ...cluster, WS_KEY_PREFIX: "team-a{ws}" })).to.equal("team-a{ws}");
    expect(prefix(sentinels)).to.equal("ws");
  });

  it("[D18] trusted proxies are addresses and networks, IPv4 and IPv6", () => {
    const proxies =
      "127.0.0.1, 10.0.0.0/8,0.0.0.0/0,10.1.2.3/32,::1,fd00::/8,::/0,2001:db8::1/128,::ffff:10.0.0.1";
    expect(readConfig({ ...needed, TRUSTED_PROXIES: proxies }).TRUSTED_PROXIES).to.deep.equal(
      proxies.split(",").map((text) => text.trim()),
    );
    expect(readConfig({ ...needed, ADMIN_READONLY: "false" }).ADMIN_READONLY).to.equal(false);
  });

  it("[D18] no secret stands in the line about a bad setting", () => {
    const secret = "hunter2-0123456789";
    const long = secret.padEnd(300, "x");
    const spoilt: NodeJS.ProcessEnv[] = [
      { DATABASE_URL: `mysql://app:${secret}@db/app` },
      { DATABASE_URL: `postgres://app:${secret}@db:port/app` },
      { DATABASE_URL: `${secret}@db` },
      { REDIS_URL: `http://:${secret}@redis:6379` },
      { REDIS_URL: `redis://:${secret}@redis:port` },
      { REDIS_URL: `redis//:${secret}@redis` },
      { REDIS_SENTINELS: `redis://:${secret}@a:1`, REDIS_PASSWORD: secret },
      { REDIS_CLUSTER_NODES: `:${secret}@a:1`, REDIS_SENTINEL_PASSWORD: secret },
      { SUPABASE_URL: `ftp://${secret}@project.supabase.co` },
      { JWT_JWKS_URL: `ftp://keys.example.com/${secret}` },
      { ADMIN_USERNAME: "root", ADMIN_PASSWORD: long },
      { ADMIN_PASSWORD: secret },
      {
        JWT_SECRET: secret,
        INTERNAL_SERVICE_KEY: secret,
        PORT: "abc",
        CORS_ORIGINS: "x",
        TRUSTED_PROXIES: "x",
      },
    ];
    for (const env of spoilt) {
      expect(() => readConfig({ ...needed, ...env }), Object.keys(env).join())
        .to.throw(Error)
        .with.property("message")
        .that.matches(/^bad settings: [^\n]+$/)
        .and.not.includes(secret);
    }
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
      .that.matches(/^bad settings: PORT [^;\n]+; LOG_LEVEL [^;\n]+; JWT_SECRET is required[^;\n]+$/);
  });

  const starts: [string, NodeJS.ProcessEnv, RegExp][] = [
    ["PORT=abc", { ...needed, PORT: "abc" }, /^agentwire: bad settings: PORT [^\n]+\n$/],
    ["no JWT_SECRET", {}, /^agentwire: bad settings: JWT_SECRET is required, or [^\n]+\n$/],
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
