import { readFileSync } from "node:fs";
import { hostname } from "node:os";
import { type ConnectionRecord, type RedisKeys, runScript, script } from "@agentwire/shared/redis";
import type { Redis } from "ioredis";
import { replies } from "./pipeline.js";

const LEASES = script(
  readFileSync(new URL("../../src/redis/connection-leases.lua", import.meta.url), "utf8"),
);

export type InstanceState = "active" | "draining" | "shutdown";

const CONNECTION_TTL_S = 24 * 3600;
const INSTANCE_TTL_S = 60;
/** A node that says nothing for this long is taken for dead. */
const LEASE_MS = 15_000;

/** Who is here: this node and its connections, as other nodes and operators see them in Redis. */
export class Registry {
  constructor(
    private readonly redis: Redis,
    private readonly keys: RedisKeys,
    private readonly instanceId: string,
  ) {}

  async announce(state: InstanceState, port: number, connections: number): Promise<void> {
    const key = this.keys.instance(this.instanceId);
    const pipeline = this.redis
      .pipeline()
      .hset(key, {
        instance_id: this.instanceId,
        host: hostname(),
        pid: process.pid,
        port,
        started_at: new Date(performance.timeOrigin).toISOString(),
        last_heartbeat: new Date().toISOString(),
        connections,
      })
      .expire(key, INSTANCE_TTL_S)
      .set(this.keys.instanceState(this.instanceId), state, "PX", LEASE_MS);
    await replies(pipeline);
  }

  /** Renews the leases of connections that are still here. */
  async keepLeases(connections: Pick<ConnectionRecord, "connection_id" | "user_id">[]): Promise<void> {
    const users = connections.map(({ user_id }) => this.keys.userConnections(user_id));
    await runScript(this.redis, LEASES, users, [LEASE_MS, ...connections.map((one) => one.connection_id)]);
  }

  /** Writes whole records: a Redis that came back empty has them again. */
  async keep(records: ConnectionRecord[]): Promise<void> {
    if (records.length === 0) return;
    const pipeline = this.redis.pipeline();
    for (const record of records) {
      const key = this.keys.connection(record.connection_id);
      pipeline
        .hset(key, {
          ...record,
          instance_id: this.instanceId,
          last_heartbeat: new Date().toISOString(),
          filters: JSON.stringify(record.filters),
        })
        .expire(key, CONNECTION_TTL_S);
    }
    await Promise.all([replies(pipeline), this.keepLeases(records)]);
  }

  async remove(records: Pick<ConnectionRecord, "connection_id" | "user_id">[]): Promise<void> {
    if (records.length === 0) return;
    const pipeline = this.redis.pipeline();
    for (const { connection_id, user_id } of records) {
      pipeline
        .del(this.keys.connection(connection_id))
        .zrem(this.keys.userConnections(user_id), connection_id);
    }
    await replies(pipeline);
  }

  async leave(): Promise<void> {
    await this.redis.del(this.keys.instance(this.instanceId), this.keys.instanceState(this.instanceId));
  }
}
