import type { PayloadOf, SequenceId, Status } from "@agentwire/shared";
import type { RedisKeys } from "@agentwire/shared/redis";
import type { Redis } from "ioredis";
import { replies } from "./pipeline.js";

export type AgentState = PayloadOf<"SNAPSHOT">["agents"][number];

const PAGE = 500;

/** The last status of agents, from their hashes. */
export class Snapshots {
  constructor(
    private readonly redis: Redis,
    private readonly keys: RedisKeys,
  ) {}

  /** Every agent of these projects that was heard of within the retention time. */
  async ofProjects(projectIds: string[]): Promise<AgentState[]> {
    const pipeline = this.redis.pipeline();
    for (const project of projectIds) pipeline.zrange(this.keys.projectAgents(project), "0", "-1");
    const ids = ((await replies(pipeline)) as string[][]).flat();
    return this.ofAgents([...new Set(ids)]);
  }

  /** These agents, without those that were never heard of. */
  async ofAgents(agentIds: string[]): Promise<AgentState[]> {
    const states: AgentState[] = [];
    for (let start = 0; start < agentIds.length; start += PAGE) {
      const pipeline = this.redis.pipeline();
      for (const id of agentIds.slice(start, start + PAGE)) pipeline.hgetall(this.keys.agent(id));
      for (const hash of (await replies(pipeline)) as Record<string, string>[]) {
        const { agent_id, project_id, task_id, status, sequence_id, timestamp } = hash;
        if (!agent_id || !project_id || !sequence_id || !timestamp) continue;
        states.push({
          agent_id,
          project_id,
          ...(task_id && { task_id }),
          status: status as Status,
          sequence_id: sequence_id as SequenceId,
          timestamp,
        });
      }
    }
    return states;
  }
}
