import { AgentwireError, type StatusChange } from "@agentwire/shared";
import { type Appended, type RedisAddress, redisKeys } from "@agentwire/shared/redis";
import { addressOf, keyPrefixFor } from "./address.js";
import { borrowConnection, openConnection, type RedisClient } from "./connection.js";
import { Order } from "./order.js";
import { pendingOf } from "./pending.js";
import { batchMsOf, ProgressPublisher } from "./progress.js";
import { agentStatus } from "./status.js";
import { openTask, type Task, type TaskSubject } from "./task.js";
import { bytesPerSecondOf, Terminals } from "./terminals.js";

export { AgentwireError, type StatusChange } from "@agentwire/shared";
export type { Appended, RedisAddress } from "@agentwire/shared/redis";
export { PublishError } from "./errors.js";
export type { Task, TaskReport, TaskSubject } from "./task.js";
export type { Terminal } from "./terminal.js";

export interface EmitterOptions {
  /**
   * An ioredis client (it stays yours and is not closed), a URL, or an address; default what `REDIS_URL`,
   * `REDIS_SENTINELS` or `REDIS_CLUSTER_NODES` says. Of a Cluster client only its servers and its login are used.
   */
  redis?: RedisClient | RedisAddress | string | undefined;
  /** Of the keys; default `WS_KEY_PREFIX`, or `ws`, in a Cluster `{ws}`. The nodes must have the same. */
  keyPrefix?: string;
  /** Of the bus channels; default `EVENT_BUS_PREFIX`, or `events:`. */
  busPrefix?: string;
  /** How long a task's progress is gathered into one update, 0 to 60,000; default `WS_PROGRESS_BATCH_MS`, or 100. */
  progressBatchMs?: number;
  /**
   * How many bytes each terminal publishes in a second while it is watched, 0 for any number; default
   * `WS_TERMINAL_BYTES_PER_SECOND`, or 1,048,576.
   */
  terminalBytesPerSecond?: number;
  /**
   * How many status changes may wait for Redis at once, default 10,000. One more is refused at once and not sent:
   * while Redis is away a worker's memory is bounded.
   */
  maxPending?: number;
}

export interface Emitter {
  /**
   * Publishes a change of an agent's status, and resolves when it stands in the log: exactly once per `event_id`
   * (`duplicate` tells that it stood there before). Settles within a second.
   *
   * @throws AgentwireError `INVALID_EVENT`, naming the field; nothing was written
   * @throws PublishError `UNAVAILABLE`: not confirmed; repeat with the error's `event_id`. At once where `maxPending`
   * wait already
   */
  agentStatus(change: StatusChange): Promise<Appended>;
  /**
   * What says how far a task is and what it writes. The same task may be asked for again.
   *
   * @throws AgentwireError `INVALID_EVENT`, naming the field; `BAD_REQUEST` when the `redis` given cannot `publish`
   */
  task(subject: TaskSubject): Task;
  /**
   * Waits for publishes under way, for the newest progress of each task and for what terminals have written, a second
   * at most, then closes the connection if it is our own. A terminal that was not ended is not: what it writes goes
   * nowhere from then on, and its viewers are told `worker_lost` when its lease has run out, within 15 s.
   */
  close(): Promise<void>;
}

/** @throws AgentwireError `BAD_REQUEST` when `redis` is a string and not a Redis URL, or a setting is not valid */
export function createEmitter(options: EmitterOptions = {}): Emitter {
  const address = addressOf(options.redis, process.env);
  // As for the nodes, an empty variable counts as absent.
  const keyPrefix = keyPrefixFor(address, options.keyPrefix ?? (process.env.WS_KEY_PREFIX || undefined));
  const busPrefix = options.busPrefix ?? (process.env.EVENT_BUS_PREFIX || undefined);
  const batchMs = batchMsOf(options.progressBatchMs ?? (process.env.WS_PROGRESS_BATCH_MS || undefined));
  const bytesPerSecond = bytesPerSecondOf(
    options.terminalBytesPerSecond ?? (process.env.WS_TERMINAL_BYTES_PER_SECOND || undefined),
  );
  const keys = redisKeys(keyPrefix, busPrefix);
  const connection = address
    ? openConnection(address, keys.epoch)
    : borrowConnection(options.redis as RedisClient, keys.epoch);
  const order = new Order();
  const pending = pendingOf(options.maxPending);
  const progress = new ProgressPublisher({ connection, keys, batchMs });
  const terminals = new Terminals({ connection, keys, bytesPerSecond });
  const underWay = new Set<Promise<unknown>>();
  let closed: Promise<void> | undefined;

  const track = <T>(publish: Promise<T>): Promise<T> => {
    underWay.add(publish);
    const done = () => underWay.delete(publish);
    publish.then(done, done);
    return publish;
  };

  return {
    async agentStatus(change) {
      if (closed) throw new AgentwireError("UNAVAILABLE", "the emitter is closed");
      progress.statusChanges(change);
      const appended = await track(agentStatus(connection, keys, order, pending, change));
      progress.statusChanged(change);
      return appended;
    },
    task: (subject) => openTask(progress, terminals, subject),
    close() {
      closed ??= Promise.allSettled([...underWay, progress.close(), terminals.close()]).then(() =>
        connection.close(),
      );
      return closed;
    },
  };
}
