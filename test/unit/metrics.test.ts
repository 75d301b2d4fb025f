import { once } from "node:events";
import { createServer } from "node:http";
import type { AddressInfo } from "node:net";
import { codes } from "@agentwire/shared";
import { appendStatusChange, redisKeys } from "@agentwire/shared/redis";
import { expect } from "chai";
import express from "express";
import fc from "fast-check";
import { createCounters } from "../../server/src/gate/counters.js";
import { createMetrics, type MetricSources } from "../../server/src/ops/metrics.js";
import { streamLag } from "../../server/src/redis/stream-lag.js";
import { type Family, parseExposition } from "../harness/exposition.js";
import { needs } from "../harness/needs.js";
import { type RedisServer, startRedis } from "../harness/redis.js";
import { onTeardown } from "../harness/teardown.js";
import { until } from "../harness/wait.js";

function open(sources: Partial<MetricSources> = {}) {
  const gate = createCounters();
  const metrics = createMetrics({
    gate,
    connections: () => [],
    terminals: () => 0,
    state: () => "ready",
    redisUp: () => true,
    streamLag: async () => 0,
    auditLost: () => 0,
    ...sources,
  });
  onTeardown(() => metrics.registry.clear());
  const families = async () => parseExposition((await metrics.render()).body);
  const family = async (name: string): Promise<Family> => {
    const found = (await families()).get(name);
    if (!found) throw new Error(`there is no ${name}`);
    return found;
  };
  /** The value of the one sample with these labels, in any order; `undefined` where there is none. */
  const value = async (name: string, labels: Record<string, string> = {}) =>
    (await family(name)).samples.find(
      (sample) =>
        Object.keys(sample.labels).length === Object.keys(labels).length &&
        Object.entries(labels).every(([key, text]) => sample.labels[key] === text),
    )?.value;
  return { gate, metrics, families, family, value };
}

describe("metrics", () => {
  it("[D26] the parser of this test is strict", () => {
    const good = '# HELP a_total x\n# TYPE a_total counter\na_total{b="c\\"d",e=""} 1\na_total 2e-3\n';
    expect(parseExposition(good).get("a_total")?.samples).to.deep.equal([
      { name: "a_total", labels: { b: 'c\\"d', e: "" }, value: 1 },
      { name: "a_total", labels: {}, value: 0.002 },
    ]);
    const bad = [
      good.slice(0, -1),
      "a_total 1\n",
      "# HELP a x\na 1\n",
      "# HELP a x\n# TYPE a number\na 1\n",
      "# HELP a x\n# TYPE a gauge\nb 1\n",
      "# HELP a x\n# TYPE a gauge\na 1\na 1\n",
      "# HELP a x\n# TYPE a gauge\na one\n",
      '# HELP a x\n# TYPE a gauge\na{b="c" 1\n',
      '# HELP a x\n# TYPE a gauge\na{b="c"d"} 1\n',
      '# HELP a x\n# TYPE a gauge\na{b="c",b="d"} 1\n',
      "# HELP a x\n# TYPE a gauge\n# HELP a x\n# TYPE a gauge\n",
    ];
    for (const text of bad) expect(() => parseExposition(text), text).to.throw();
  });

  it("[D26] what is rendered parses, with the conventions: units, _total on counters and on nothing else", async () => {
    const { families, metrics } = open({ connections: () => [{ transport: "polling", encoding: "json" }] });
    metrics.handshake("UNAUTHORIZED", "polling");
    const found = [...(await families()).values()];
    const ours = found.filter(({ name }) => name.startsWith("agentwire_"));
    expect(ours).to.have.length.above(15);
    for (const { name, type, help } of ours) {
      expect(name.endsWith("_total"), name).to.equal(type === "counter");
      expect(name).to.match(/^agentwire_[a-z_]+$/);
      expect(help, name).to.match(/^[A-Z0-9].{10,120}\.$/);
    }
    expect(found.map(({ name }) => name)).to.include.members([
      "process_cpu_seconds_total",
      "process_resident_memory_bytes",
      "nodejs_eventloop_lag_p50_seconds",
      "nodejs_eventloop_lag_p99_seconds",
      "nodejs_eventloop_lag_max_seconds",
    ]);
  });

  it("[D26] the gate's counters are read when they are asked for, again and again", async () => {
    const { gate, value, family } = open();
    expect(await value("agentwire_delivered_total", { class: "log" })).to.equal(0);
    gate.delivered.log = 7;
    gate.delivered.control = 2;
    gate.bytes = 1234;
    gate.queued = 5;
    gate.merged = 3;
    gate.refilled = 11;
    gate.closedUnread = 1;
    gate.dropped.rate_limit.state = 4;
    for (let scrape = 0; scrape < 2; scrape++) {
      expect(await value("agentwire_delivered_total", { class: "log" })).to.equal(7);
      expect(await value("agentwire_delivered_total", { class: "control" })).to.equal(2);
      expect(await value("agentwire_delivered_bytes_total")).to.equal(1234);
      expect(await value("agentwire_queued_total")).to.equal(5);
      expect(await value("agentwire_merged_total")).to.equal(3);
      expect(await value("agentwire_refilled_total")).to.equal(11);
      expect(await value("agentwire_closed_unread_total")).to.equal(1);
      expect(await value("agentwire_dropped_total", { reason: "rate_limit", class: "state" })).to.equal(4);
      expect(await value("agentwire_dropped_total", { reason: "expired", class: "log" })).to.equal(0);
    }
    gate.delivered.log = 9;
    expect(await value("agentwire_delivered_total", { class: "log" })).to.equal(9);
    expect((await family("agentwire_dropped_total")).samples).to.have.length(12);
    expect((await family("agentwire_delivered_total")).samples).to.have.length(4);
  });

  it("[D26] connections are counted by transport and encoding, also down again", async () => {
    const here = [
      { transport: "websocket", encoding: "json" },
      { transport: "websocket", encoding: "json" },
      { transport: "polling", encoding: "messagepack" },
    ];
    const { value, family } = open({ connections: () => here });
    const name = "agentwire_connections";
    expect(await value(name, { transport: "websocket", encoding: "json" })).to.equal(2);
    expect(await value(name, { transport: "polling", encoding: "messagepack" })).to.equal(1);
    expect(await value(name, { transport: "polling", encoding: "json" })).to.equal(0);
    here.length = 0;
    expect((await family(name)).samples.map(({ value }) => value)).to.deep.equal([0, 0, 0, 0]);
  });

  it("[D26] handshakes, replays and refills are counted, from zero", async () => {
    const { metrics, value } = open();
    const admitted = { verdict: "admitted", transport: "websocket" };
    expect(await value("agentwire_handshakes_total", admitted)).to.equal(0);
    metrics.handshake("admitted", "websocket");
    metrics.handshake("admitted", "websocket");
    metrics.handshake("IP_RATE_LIMITED", "polling");
    expect(await value("agentwire_handshakes_total", admitted)).to.equal(2);
    expect(
      await value("agentwire_handshakes_total", { verdict: "IP_RATE_LIMITED", transport: "polling" }),
    ).to.equal(1);
    expect(await value("agentwire_replays_total", { outcome: "history_lost" })).to.equal(0);
    metrics.replay("history_lost");
    metrics.replay("complete");
    expect(await value("agentwire_replays_total", { outcome: "history_lost" })).to.equal(1);
    expect(await value("agentwire_replays_total", { outcome: "complete" })).to.equal(1);
    expect(await value("agentwire_node_refills_total", { because: "gap" })).to.equal(0);
    metrics.refill("gap");
    expect(await value("agentwire_node_refills_total", { because: "gap" })).to.equal(1);
  });

  it("[D26] the state of the node, of Redis, of the audit and the version", async () => {
    let state: ReturnType<MetricSources["state"]> = "starting";
    let up = false;
    let lost = 0;
    const { value } = open({ state: () => state, redisUp: () => up, auditLost: () => lost });
    const states = () =>
      Promise.all(
        ["starting", "ready", "away", "stopped"].map((name) =>
          value("agentwire_node_state", { state: name }),
        ),
      );
    expect(await states()).to.deep.equal([1, 0, 0, 0]);
    expect(await value("agentwire_redis_up")).to.equal(0);
    expect(await value("agentwire_audit_lost_total")).to.equal(0);
    state = "away";
    up = true;
    lost = 17;
    expect(await states()).to.deep.equal([0, 0, 1, 0]);
    expect(await value("agentwire_redis_up")).to.equal(1);
    expect(await value("agentwire_audit_lost_total")).to.equal(17);
    expect(await value("agentwire_build_info", { version: "0.1.0" })).to.equal(1);
  });

  it("[D26] the lag is absent while Redis cannot say it, and the rest is there", async () => {
    let away = false;
    const { value } = open({
      streamLag: () => (away ? Promise.reject(new Error("away")) : Promise.resolve(1.5)),
    });
    expect(await value("agentwire_stream_lag_seconds")).to.equal(1.5);
    away = true;
    expect(await value("agentwire_stream_lag_seconds")).to.equal(undefined);
    expect(await value("agentwire_redis_up")).to.equal(1);
    away = false;
    expect(await value("agentwire_stream_lag_seconds")).to.equal(1.5);
  });

  it("[D26] whatever comes from outside, the labels are a known few, and name nobody", async () => {
    const here: { transport: string; encoding: string }[] = [];
    const { metrics, families } = open({ connections: () => here });
    const text = fc.oneof(fc.string(), fc.constantFrom("user-1", "10.0.0.1", "__proto__", "toString", "a b"));
    fc.assert(
      fc.property(text, text, (one, another) => {
        metrics.handshake(one, another);
        metrics.refill(one);
        here.push({ transport: one, encoding: another });
      }),
      { numRuns: 500 },
    );
    for (const code of Object.keys(codes)) metrics.handshake(code, "polling");
    const known: Record<string, string[]> = {
      verdict: ["admitted", "other", ...Object.keys(codes)],
      transport: ["polling", "websocket", "other"],
      encoding: ["json", "messagepack", "other"],
      because: ["behind", "gap", "lease_lost", "other_history", "redis_away", "other"],
      outcome: ["complete", "window_exceeded", "history_lost", "trimmed"],
      class: ["log", "state", "bytes", "control"],
      reason: ["backpressure", "rate_limit", "expired"],
      state: ["starting", "ready", "away", "draining", "stopped"],
      version: ["0.1.0"],
    };
    let samples = 0;
    for (const family of (await families()).values()) {
      if (!family.name.startsWith("agentwire_")) continue;
      for (const { labels } of family.samples) {
        samples++;
        for (const [name, value] of Object.entries(labels)) expect(known[name], name).to.include(value);
      }
    }
    expect(samples).to.be.below(120);
  });

  it("[D26] GET /metrics answers with it, as Prometheus asks", async () => {
    const { metrics } = open();
    const server = createServer(express().use(metrics.route)).listen(0, "127.0.0.1");
    await once(server, "listening");
    onTeardown(() => {
      server.close();
      server.closeAllConnections();
    });
    const url = `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
    const answer = await fetch(`${url}/metrics`);
    expect(answer.status).to.equal(200);
    expect(answer.headers.get("content-type")).to.match(/^text\/plain; version=0\.0\.4; charset=utf-8$/);
    expect(answer.headers.get("cache-control")).to.equal("no-store");
    expect(parseExposition(await answer.text()).size).to.be.above(30);
    expect((await fetch(`${url}/metrics`, { method: "POST" })).status).to.equal(404);
  });

  it("[D26] two nodes in one process do not share their figures", async () => {
    const [one, another] = [open(), open()];
    one.metrics.replay("complete");
    expect(await another.value("agentwire_replays_total", { outcome: "complete" })).to.equal(0);
  });

  describe("the lag behind the log", () => {
    needs("REDIS");
    const keys = redisKeys("metrics-test");
    let server: RedisServer;

    before(async () => {
      server = await startRedis();
    });
    after(() => server?.stop());

    it("[D26] is the age of the oldest event that was not handled, and 0 when level", async () => {
      const redis = server.client();
      expect(await streamLag(redis, keys, "0-0")).to.equal(0);
      const append = async (n: number) => {
        const change = { agent_id: "a1", project_id: "p1", new_status: "working" as const };
        const { sequence_id } = await appendStatusChange(redis, keys, { ...change, event_id: `e-${n}` });
        return sequence_id;
      };
      const first = await append(1);
      expect(await streamLag(redis, keys, first)).to.equal(0);
      // What the nodes themselves write is nothing to be handled.
      for (let n = 0; n < 20; n++) await redis.xadd(keys.events, "*", "nsp", "/", "marker", String(n));
      expect(await streamLag(redis, keys, first)).to.equal(0);
      const second = await append(2);
      const age = async (id: string) => {
        const [seconds, micros] = await redis.time();
        return Number(seconds) + Number(micros) / 1e6 - Number(id.split("-")[0]) / 1000;
      };
      await until("it is old", async () => (await age(second)) > 0.05);
      const third = await append(3);
      const young = await age(second);
      expect(await streamLag(redis, keys, first)).to.be.within(young - 0.001, await age(second));
      expect(await streamLag(redis, keys, second)).to.be.within(0, await age(third));
      expect(await streamLag(redis, keys, third)).to.equal(0);
    });
  });
});
