import { limits } from "@agentwire/shared";
import type { RedisKeys } from "@agentwire/shared/redis";
import type { TerminalClient } from "./connection.js";
import type { TaskSubject } from "./task.js";

type Command = [name: string, ...args: (string | number)[]];

/** What stands in Redis about a terminal: whose it is, that its worker lives, and how it has ended. No byte of it. */
export class TerminalRecord {
  readonly #redis: TerminalClient;
  readonly #subject: Required<TaskSubject>;
  readonly #key: string;
  readonly #taskKey: string;
  #written = false;

  constructor(redis: TerminalClient, keys: RedisKeys, subject: Required<TaskSubject>) {
    this.#redis = redis;
    this.#subject = subject;
    this.#key = keys.terminal(subject.task_id);
    this.#taskKey = keys.task(subject.task_id);
  }

  /** @throws what the Redis client throws */
  async renew(): Promise<void> {
    // The first time, what an earlier attempt has left there about its end must go.
    await this.#write(this.#written ? [] : [["del", this.#key]], {}, limits.terminalLeaseMs);
    this.#written = true;
  }

  /** @throws what the Redis client throws; safe to repeat */
  end(offset: number, exitCode: number | undefined): Promise<void> {
    const ended = { ended: "1", offset, ...(exitCode !== undefined && { exit_code: exitCode }) };
    return this.#write([["del", this.#key]], ended, limits.terminalEndKeptMs);
  }

  async #write(first: Command[], more: Record<string, string | number>, keptMs: number): Promise<void> {
    const { project_id, agent_id, attempt } = this.#subject;
    const fields = Object.entries({ project_id, agent_id, attempt, ...more }).flat();
    const answers = await this.#redis
      .multi([
        ...first,
        ["hset", this.#key, ...fields],
        ["pexpire", this.#key, keptMs],
        ["set", this.#taskKey, project_id, "PX", limits.agentRetentionMs],
      ])
      .exec();
    const error = answers?.map(([failure]) => failure).find(Boolean);
    if (error) throw error;
  }
}
