import { AgentwireError, limits } from "@agentwire/shared";
import type { RedisKeys } from "@agentwire/shared/redis";
import type { ChannelsSubscription, Connection, RedisClient, TerminalClient } from "./connection.js";
import { isLasting } from "./publish.js";
import type { TaskSubject } from "./task.js";
import { OpenTerminal, type Terminal } from "./terminal.js";

export interface TerminalsOptions {
  connection: Connection;
  keys: RedisKeys;
  bytesPerSecond: number;
}

/** The open terminals of this process; they hear on one connection what nodes tell them. */
export class Terminals {
  readonly #options: TerminalsOptions;
  /** By control channel. */
  readonly #open = new Map<string, OpenTerminal>();
  #subscription: ChannelsSubscription | undefined;
  #closed = false;
  #warned = false;

  constructor(options: TerminalsOptions) {
    this.#options = options;
  }

  /** @throws AgentwireError: see `Task.terminal` */
  open(subject: Required<TaskSubject>): Terminal {
    const { connection, keys, bytesPerSecond } = this.#options;
    if (this.#closed) throw new AgentwireError("UNAVAILABLE", "the emitter is closed");
    if (!isTerminalClient(connection.redis)) {
      throw new AgentwireError("BAD_REQUEST", "redis: a terminal needs an ioredis client");
    }
    const channel = keys.terminalControl(subject.task_id);
    if (this.#open.has(channel)) {
      throw new AgentwireError("BAD_REQUEST", `the terminal of task ${subject.task_id} is open already`);
    }
    const terminal = new OpenTerminal({
      redis: connection.redis,
      keys,
      subject,
      bytesPerSecond,
      failed: (error) => {
        if (isLasting(error)) this.#refused(error);
      },
      over: () => {
        this.#open.delete(channel);
        this.#subscription?.remove(channel);
      },
    });
    this.#open.set(channel, terminal);
    this.#subscription ??= this.#listen();
    this.#subscription.add(channel);
    return terminal;
  }

  /** Takes a second at most, or as long as a terminal takes that is being ended. */
  async close(): Promise<void> {
    this.#closed = true;
    await Promise.all([...this.#open.values()].map((terminal) => terminal.close()));
    this.#open.clear();
    await this.#subscription?.close();
  }

  #listen(): ChannelsSubscription {
    return this.#options.connection.listenToMany({
      heard: (channel, text) => this.#open.get(channel)?.heard(text),
      hears: (channel) => void this.#open.get(channel)?.hears(),
      failed: (error) => {
        if (isLasting(error)) this.#refused(error);
      },
    });
  }

  /** There is no caller to tell, and bytes go on. Once, since each is refused alike. */
  #refused(error: Error): void {
    if (this.#warned) return;
    this.#warned = true;
    process.emitWarning(`terminals are not published, Redis refused: ${error.message}`, "AgentwireWarning");
  }
}

/** @throws AgentwireError `BAD_REQUEST` */
export function bytesPerSecondOf(value: number | string = limits.terminalBytesPerSecond): number {
  const bytes = Number(value);
  if (Number.isInteger(bytes) && bytes >= 0) return bytes;
  throw new AgentwireError(
    "BAD_REQUEST",
    "WS_TERMINAL_BYTES_PER_SECOND must be a whole number, 0 for no limit",
  );
}

function isTerminalClient(redis: RedisClient): redis is RedisClient & TerminalClient {
  return Boolean(redis.publish && redis.pttl && redis.multi && redis.duplicate);
}
