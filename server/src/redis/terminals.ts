import { AgentwireError, limits } from "@agentwire/shared";
import type { RedisKeys, TerminalControl } from "@agentwire/shared/redis";
import type { ChainableCommander, Redis } from "ioredis";
import { replies } from "./pipeline.js";

/** What Redis says about a terminal. */
export interface TerminalState {
  /** Its task's, by all that say so: one, where all is well; none of a task that is not known. */
  projects: string[];
  /** Of the worker that writes it now; nothing where none of ours does. */
  attempt: string | undefined;
  /** How long that worker is believed to live, in ms. */
  leaseMs: number;
  ended?: { offset: number; exit_code?: number; reason?: string };
}

/** What nodes read and say about terminals. Everything here throws what Redis answers while it is away. */
export class Terminals {
  constructor(
    private readonly redis: Redis,
    private readonly keys: RedisKeys,
  ) {}

  state(task: string): Promise<TerminalState> {
    return this.#read(this.redis.pipeline(), task);
  }

  /** Says that somebody watches this terminal, for the next 15 s. */
  watch(task: string): Promise<TerminalState> {
    const pipeline = this.redis
      .pipeline()
      .set(this.keys.terminalWatched(task), "1", "PX", limits.terminalLeaseMs)
      .publish(this.keys.terminalControl(task), control({ type: "watch" }));
    return this.#read(pipeline, task);
  }

  /**
   * Asks the worker to say again what it still has, on the channel of this request.
   * @returns whether somebody heard it
   */
  async askTail(task: string, request: string, from: number | undefined): Promise<boolean> {
    const wish = { type: "tail", request, ...(from !== undefined && { from }) } as const;
    return (await this.redis.publish(this.keys.terminalControl(task), control(wish))) > 0;
  }

  /**
   * Says what a worker wrote that has no emitter, and that the task is of this project.
   * @throws AgentwireError `INVALID_EVENT` where it is of another one
   */
  async say(task: string, project: string, output: object): Promise<void> {
    const key = this.keys.task(task);
    const known = await this.redis.get(key);
    if (known !== null && known !== project)
      throw new AgentwireError("INVALID_EVENT", "task_id: a task of another project");
    const pipeline = this.redis
      .pipeline()
      .set(key, project, "PX", limits.agentRetentionMs)
      .publish(this.keys.terminalOutput(task), JSON.stringify(output));
    await replies(pipeline);
  }

  async #read(pipeline: ChainableCommander, task: string): Promise<TerminalState> {
    const { keys } = this;
    pipeline.get(keys.task(task)).hgetall(keys.terminal(task)).pttl(keys.terminal(task));
    const [project, hash, leaseMs] = (await replies(pipeline)).slice(-3) as [
      string | null,
      Record<string, string>,
      number,
    ];
    const { project_id, attempt, ended, offset, exit_code, reason } = hash;
    return {
      projects: [...new Set([project, project_id])].filter((id): id is string => Boolean(id)),
      attempt: project_id === undefined ? undefined : (attempt ?? ""),
      leaseMs,
      ...(ended && {
        ended: {
          offset: Number(offset ?? 0),
          ...(exit_code && { exit_code: Number(exit_code) }),
          ...(reason && { reason }),
        },
      }),
    };
  }
}

const control = (message: TerminalControl): string => JSON.stringify(message);
