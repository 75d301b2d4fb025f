import type { Writable } from "node:stream";
import { setTimeout as sleep } from "node:timers/promises";
import { AgentwireError, limits } from "@agentwire/shared";
import {
  encodeTerminal,
  parseTerminalControl,
  type RedisKeys,
  type TerminalMessage,
} from "@agentwire/shared/redis";
import type { TerminalClient } from "./connection.js";
import type { TaskSubject } from "./task.js";
import { TerminalPump } from "./terminal-pump.js";
import { TerminalRecord } from "./terminal-record.js";
import { TerminalRing } from "./terminal-ring.js";
import { TerminalStreams } from "./terminal-streams.js";

const RENEW_MS = limits.terminalLeaseMs / 3;
const PAUSE_MS = 50;

/**
 * What a task writes, byte for byte, for who watches it. While nobody does, the last 256 KiB are kept in this process
 * and nothing is published. While somebody does, at most `terminalBytesPerSecond` leave: writing is held up above that,
 * and so is a child process that is piped in. Redis being away holds nobody up; viewers are then told which bytes are
 * missing, where it is more than is kept.
 */
export interface Terminal {
  /** Its `end()` ends this stream only. */
  readonly stdout: Writable;
  readonly stderr: Writable;
  /**
   * Says that nothing more comes: takes no more writes, publishes what was written, and settles when Redis has
   * confirmed it, or when Redis has done nothing for a second. The task may then open another terminal.
   *
   * @param exit_code what the viewers are told
   * @throws AgentwireError `BAD_REQUEST`: not a whole number; `UNAVAILABLE` when the emitter is closed
   */
  end(exit_code?: number): Promise<void>;
}

export interface TerminalOptions {
  redis: TerminalClient;
  keys: RedisKeys;
  subject: Required<TaskSubject>;
  bytesPerSecond: number;
  /** Redis did not take something. */
  failed(error: unknown): void;
  /** It has ended, and needs not hear any more. */
  over(): void;
}

export class OpenTerminal implements Terminal {
  readonly #options: TerminalOptions;
  readonly #ring = new TerminalRing();
  readonly #streams: TerminalStreams;
  readonly #pump: TerminalPump;
  readonly #record: TerminalRecord;
  readonly #renewal: NodeJS.Timeout;
  /** Whether somebody has been watching since before it opened is known, or Redis has had a second to tell. */
  readonly #known: Promise<void>;
  #answered = () => {};
  #watchedUntil = 0;
  #lapse: NodeJS.Timeout | undefined;
  /** How often it has begun to hear. */
  #times = 0;
  #stopped = false;
  #ended: Promise<void> | undefined;
  #closed: Promise<void> | undefined;

  constructor(options: TerminalOptions) {
    this.#options = options;
    const { redis, keys, subject, bytesPerSecond, failed } = options;
    this.#streams = new TerminalStreams({
      room: () => this.#pump.room,
      put: (stream, data) => {
        this.#ring.put(stream, data);
        this.#pump.written();
      },
    });
    this.#pump = new TerminalPump({
      ring: this.#ring,
      bytesPerSecond,
      publish: async (message) =>
        redis.publish(keys.terminalOutput(subject.task_id), encodeTerminal(message)),
      roomAgain: () => this.#streams.take(),
      failed,
    });
    this.#known = new Promise((resolve) => {
      const timer = setTimeout(() => this.#answered(), limits.publishTimeoutMs);
      this.#answered = () => {
        clearTimeout(timer);
        this.#pump.known();
        resolve();
      };
    });
    this.#record = new TerminalRecord(redis, keys, subject);
    this.#renewal = setInterval(() => this.#renew(), RENEW_MS);
    this.#renew();
  }

  get stdout(): Writable {
    return this.#streams.stdout;
  }

  get stderr(): Writable {
    return this.#streams.stderr;
  }

  /** What stands on the control channel; others may write there what they like, and that is ignored. */
  heard(text: string): void {
    const control = parsed(text);
    if (this.#closed || !control) return;
    if (control.type === "watch") {
      this.#watched(limits.terminalLeaseMs);
    } else {
      const { redis, keys } = this.#options;
      const channel = keys.terminalTail(control.request);
      this.#pump.tail(control.from ?? 0, async (message: TerminalMessage) =>
        redis.publish(channel, encodeTerminal(message)),
      );
    }
  }

  /** It hears what is said on the control channel from now on, and may have missed what was said before. */
  async hears(): Promise<void> {
    const { redis, keys, subject, failed } = this.#options;
    const time = ++this.#times;
    // The connection that hears may be there before the one that asks.
    for (; time === this.#times && !this.#stopped; await sleep(PAUSE_MS)) {
      try {
        const [ms] = await Promise.all([
          redis.pttl(keys.terminalWatched(subject.task_id)),
          this.#record.renew(),
        ]);
        // -2: there is none; -1: it never expires, though it should.
        if (ms !== -2) this.#watched(ms < 0 ? limits.terminalLeaseMs : ms);
        this.#answered();
        return;
      } catch (error) {
        failed(error);
      }
    }
  }

  end(exit_code?: number): Promise<void> {
    if (exit_code !== undefined && !Number.isInteger(exit_code)) {
      return Promise.reject(new AgentwireError("BAD_REQUEST", "exit_code must be a whole number"));
    }
    if (this.#closed && !this.#ended) {
      return Promise.reject(new AgentwireError("UNAVAILABLE", "the emitter is closed"));
    }
    this.#ended ??= this.#end(exit_code);
    return this.#ended;
  }

  /**
   * Publishes what was written, within a second, and says nothing about an end: when the lease has run out, viewers
   * are told that the worker is gone. What is written afterwards goes nowhere and holds nobody up.
   */
  close(): Promise<void> {
    this.#closed ??= this.#ended ?? this.#pump.flush(limits.publishTimeoutMs).then(() => this.#stop());
    return this.#closed;
  }

  async #end(exit_code: number | undefined): Promise<void> {
    // A task may be shorter than the way to Redis and back.
    await Promise.all([this.#known, this.#streams.end()]);
    const isFlushed = await this.#pump.flush();
    this.#stop();
    const givenUp = new AbortController();
    // Otherwise Redis has had its second already.
    const timer = setTimeout(() => givenUp.abort(), isFlushed ? limits.publishTimeoutMs : 0);
    const over = new Promise((resolve) => givenUp.signal.addEventListener("abort", resolve));
    await Promise.race([this.#sayEnd(exit_code, givenUp.signal), over]);
    clearTimeout(timer);
    this.#options.over();
  }

  /** Tells who watches and who comes in the next minutes, again and again until it is confirmed or given up. */
  async #sayEnd(exit_code: number | undefined, givenUp: AbortSignal): Promise<void> {
    const { redis, keys, subject, failed } = this.#options;
    const offset = this.#ring.end;
    const end = encodeTerminal({ end: true, offset, ...(exit_code !== undefined && { exit_code }) });
    do {
      try {
        // The record first: who subscribes between the two reads it there.
        const recorded = this.#record.end(offset, exit_code);
        await Promise.all([recorded, redis.publish(keys.terminalOutput(subject.task_id), end)]);
        return;
      } catch (error) {
        failed(error);
        await sleep(PAUSE_MS);
      }
    } while (!givenUp.aborted);
  }

  #stop(): void {
    this.#stopped = true;
    this.#answered();
    clearInterval(this.#renewal);
    clearTimeout(this.#lapse);
    this.#pump.close();
  }

  #watched(ms: number): void {
    if (this.#stopped) return;
    const now = performance.now();
    this.#watchedUntil = Math.max(this.#watchedUntil, now + ms);
    clearTimeout(this.#lapse);
    this.#lapse = setTimeout(() => this.#pump.watch(false), this.#watchedUntil - now);
    this.#pump.watch(true);
  }

  #renew(): void {
    // Redis is away: it is renewed again in 5 s, and at once when it is back.
    this.#record.renew().catch(this.#options.failed);
  }
}

function parsed(text: string) {
  try {
    return parseTerminalControl(text);
  } catch {
    return undefined;
  }
}
