import { hostname } from "node:os";
import type { ConnectionRecord, RedisKeys } from "@agentwire/shared/redis";
import type { Redis } from "ioredis";
import { replies } from "./pipeline.js";

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

  /** @returns whether this node was known: a lease that ended was taken for its death */
  async announce(state: InstanceState, port: number, connections: number): Promise<boolean> {
    const key = this.keys.instance(this.instanceId);
    const transaction = this.redis
      .multi()
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
      .sadd(this.keys.instances, this.instanceId)
      .set(this.keys.instanceState(this.instanceId), state, "PX", LEASE_MS, "GET");
    return (await replies(transaction)).at(-1) !== null;
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
          filters: JSON.stringify(record.filters),
        })
        .expire(key, CONNECTION_TTL_S);
    }
    await replies(pipeline);
  }

  async remove(connectionIds: string[]): Promise<void> {
    if (connectionIds.length === 0) return;
    await this.redis.del(...connectionIds.map((id) => this.keys.connection(id)));
  }

  async leave(): Promise<void> {
    const { instance, instanceState, instances } = this.keys;
    await replies(
      this.redis
        .pipeline()
        .del(instance(this.instanceId), instanceState(this.instanceId))
        .srem(instances, this.instanceId),
    );
  }
}
