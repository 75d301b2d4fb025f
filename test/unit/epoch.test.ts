import { redisKeys } from "@agentwire/shared/redis";
import { expect } from "chai";
import { ensureEpoch, recogniseServer } from "../../server/src/redis/epoch.js";
import { needs } from "../harness/needs.js";
import { type RedisServer, startRedis } from "../harness/redis.js";
import { onTeardown } from "../harness/teardown.js";
import { until } from "../harness/wait.js";

const keys = redisKeys();

describe("a history knows its server", () => {
  needs("REDIS");

  const start = async (args: string[] = []): Promise<RedisServer> => {
    const server = await startRedis({ args });
    onTeardown(() => server.stop());
    return server;
  };

  it("[D10] a replica that takes its primary's place: another name, once; a server that is the same: none", async () => {
    const [primary, replica] = await Promise.all([start(), start()]);
    const [one, other] = [primary.client(), replica.client()];
    const name = await ensureEpoch(one, keys);
    expect(await recogniseServer(one, keys)).to.equal(false);
    expect(await recogniseServer(one, keys)).to.equal(false);
    await other.replicaof("127.0.0.1", String(primary.port));
    await until("the replica has it", async () => (await other.get(keys.server)) !== null);
    await primary.kill();
    await other.replicaof("NO", "ONE");
    expect(await other.get(keys.epoch)).to.equal(name);
    expect(await recogniseServer(other, keys)).to.equal(true);
    const renamed = await other.get(keys.epoch);
    expect(renamed).to.not.equal(name);
    expect(await recogniseServer(other, keys)).to.equal(false);
    expect(await other.get(keys.epoch)).to.equal(renamed);
  });

  it("[D10] a server that was restarted with what it had keeps its history", async () => {
    const server = await start(["--appendonly", "yes", "--appendfsync", "always"]);
    const client = server.client();
    const name = await ensureEpoch(client, keys);
    await recogniseServer(client, keys);
    const before = await client.get(keys.server);
    await server.restart();
    expect(await recogniseServer(client, keys)).to.equal(false);
    expect(await client.get(keys.server)).to.not.equal(before);
    expect(await client.get(keys.epoch)).to.equal(name);
  });

  it("[D10] where INFO is forbidden nothing is known, and nothing renamed", async () => {
    const server = await start();
    const client = server.client();
    const name = await ensureEpoch(client, keys);
    await client.call("ACL", "SETUSER", "default", "-info");
    expect(await recogniseServer(client, keys)).to.equal(false);
    expect(await client.get(keys.epoch)).to.equal(name);
  });
});
