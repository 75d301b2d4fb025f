import { createEmitter } from "@agentwire/emitter";
import { AgentwireError } from "@agentwire/shared";
import { keepPulse, redisOpener, whenElsewhere } from "@agentwire/shared/redis";
import { expect } from "chai";
import { Redis, type RedisOptions } from "ioredis";
import { needs } from "../harness/needs.js";
import { freePort } from "../harness/ports.js";
import { startRedis } from "../harness/redis.js";
import { startRedisCluster } from "../harness/redis-cluster.js";
import { onTeardown } from "../harness/teardown.js";
import { until } from "../harness/wait.js";

const KEY = "{ws}:epoch";

/** A client; `server` is what happens when it asks. */
function line(server: (stream: { bytesRead: number }) => Promise<unknown>) {
  const cuts: number[] = [];
  const began = performance.now();
  const stream = { bytesRead: 0 };
  const fake = {
    status: "ready",
    stream,
    asked: 0,
    cuts,
    exists() {
      fake.asked++;
      return server(stream);
    },
    ping: () => server(stream),
    disconnect: () => void cuts.push(performance.now() - began),
  };
  onTeardown(keepPulse(fake, KEY, 1000));
  return fake;
}
const never = () => new Promise(() => {});
const replyError = (message: string) => Object.assign(new Error(message), { name: "ReplyError" });
const answers =
  (answer: () => Promise<unknown>) =>
  (stream: { bytesRead: number }): Promise<unknown> => {
    stream.bytesRead += 4;
    return answer();
  };

describe("lines to Redis", () => {
  it("[D17] one on which nothing comes is cut after a second, and again while it stays so", async () => {
    const silent = line(never);
    await until("it is cut twice", () => silent.cuts.length === 2);
    expect(silent.cuts[0]).to.be.within(1000, 2500);
  });

  it("[D17] a subscriber that may ask for nothing but a PING (RESP2) is not cut while it is answered", async () => {
    let pings = 0;
    const subscriber = Object.assign(line(never), {
      exists: () => Promise.reject(new Error("Connection in subscriber mode")),
      async ping() {
        pings++;
        subscriber.stream.bytesRead += 4;
      },
    });
    await until("it was asked for more than a second", () => pings >= 8);
    expect(subscriber.cuts).to.deep.equal([]);
  });

  it("[D17] so is one that never becomes ready, and one that times out; not one on which something comes, or that is gone", async () => {
    const unready = Object.assign(line(never), { status: "connect" });
    const late = line(() => Promise.reject(new Error("Command timed out")));
    const answered = line(answers(async () => 0));
    const refused = line(answers(() => Promise.reject(replyError("MOVED 7994 127.0.0.1:7001"))));
    const busy = line(never);
    const gone = Object.assign(line(never), { status: "reconnecting" });
    await until("two are cut", () => {
      busy.stream.bytesRead++;
      return unready.cuts.length > 0 && late.cuts.length > 0;
    });
    await until("as often asked as would have cut it", () => answered.asked > 6);
    expect([answered.cuts, refused.cuts, gone.cuts]).to.deep.equal([[], [], []]);
    expect([busy.asked, gone.asked]).to.deep.equal([1, 0]);
  });

  it("[D17] a pause of this process is no silence of Redis", async () => {
    const busy = line(never);
    await until("it is asked", () => busy.asked === 1);
    for (const end = performance.now() + 1500; performance.now() < end; );
    busy.stream.bytesRead += 4;
    const others = line(answers(async () => 0));
    await until("a second has passed since", () => {
      busy.stream.bytesRead += 4;
      return others.asked > 4;
    });
    expect(busy.cuts).to.deep.equal([]);
  });

  it("[D17] what says that the primary is elsewhere makes a client connect again, once for a burst", () => {
    const elsewhere = [
      "READONLY You can't write against a read only replica.",
      "MOVED 7994 127.0.0.1:7001",
      "ASK 7994 127.0.0.1:7001",
      "NOREPLICAS Not enough good replicas to write.",
      "CLUSTERDOWN The cluster is down",
      "ERR Error running script (call to f_1): @user_script:3: -READONLY You can't write against a read only replica.",
    ];
    for (const message of elsewhere) {
      const rule = whenElsewhere();
      expect(
        [1, 2, 3].map(() => rule(replyError(message))),
        message,
      ).to.deep.equal([true, false, false]);
    }
    for (const message of [
      "WRONGTYPE Operation against a key",
      "OOM command not allowed",
      "LOADING Redis is loading",
    ])
      expect(whenElsewhere()(replyError(message)), message).to.equal(false);
  });

  const refusals: [string, NodeJS.ProcessEnv, string][] = [
    ["two sorts of Redis", { REDIS_URL: "redis://a", REDIS_CLUSTER_NODES: "a:1" }, "only one of these"],
    ["Sentinels without a name", { REDIS_SENTINELS: "a:1" }, "REDIS_SENTINEL_NAME is required"],
    ["a prefix of many slots", { REDIS_CLUSTER_NODES: "127.0.0.1:1", WS_KEY_PREFIX: "ws" }, "part in braces"],
  ];
  for (const [what, env, about] of refusals) {
    it(`[D18] an emitter in an environment with ${what} is refused`, () => {
      const before = { ...process.env };
      onTeardown(() => {
        process.env = before;
      });
      Object.assign(process.env, { REDIS_URL: "", ...env });
      expect(() => createEmitter())
        .to.throw(AgentwireError, about)
        .with.property("code", "BAD_REQUEST");
    });
  }

  describe("in a Cluster", () => {
    needs("REDIS");

    const change = { agent_id: "a1", project_id: "p1", new_status: "idle" } as const;
    const said = async (port: number): Promise<unknown> => {
      const emitter = createEmitter({ redis: { kind: "cluster", nodes: [{ host: "127.0.0.1", port }] } });
      onTeardown(() => emitter.close());
      return emitter.agentStatus(change).then(
        () => undefined,
        (error: AgentwireError) => `${error.code}: ${error.message}`,
      );
    };

    it("[D2] where no server of it answers, an emitter says why", async () => {
      expect(await said(await freePort())).to.match(/^UNAVAILABLE: .*ECONNREFUSED/);
    });

    it("[D2] where the server is none of a Cluster, it says that", async () => {
      const single = await startRedis();
      onTeardown(() => single.stop());
      expect(await said(single.port)).to.match(/^UNAVAILABLE: .*cluster support disabled/);
    });

    it("[D17] with one server named, a client finds the others, and the new primary when that one is killed", async () => {
      const cluster = await startRedisCluster();
      onTeardown(() => cluster.stop());
      const { port } = await cluster.primary();
      const nodes = [{ host: "127.0.0.1", port }];
      const open = redisOpener<Redis, RedisOptions>(Redis, { kind: "cluster", nodes }, KEY);
      const redis = open({ retryStrategy: () => 50, disconnectTimeout: 100, maxRetriesPerRequest: null });
      redis.on("error", () => {});
      onTeardown(() => redis.disconnect());
      await redis.set("{ws}:x", "1");
      expect(await redis.wait(1, 10_000)).to.equal(1);
      await cluster.killPrimary();
      expect(await redis.get("{ws}:x")).to.equal("1");
      expect(redis.stream.remotePort).not.to.equal(port);
    });
  });
});
