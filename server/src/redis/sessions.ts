import { readFileSync } from "node:fs";
import {
  compareSequence,
  isSequenceId,
  keptForMs,
  laterSequence,
  SEQUENCE_START,
  type SequenceId,
} from "@agentwire/shared";
import {
  type RedisKeys,
  runScript,
  type SessionProgress,
  type SessionRecord,
  script,
} from "@agentwire/shared/redis";
import type { Redis } from "ioredis";

const source = (name: string) => readFileSync(new URL(`../../src/redis/${name}`, import.meta.url), "utf8");
const SAVE = script(source("session-save.lua"));
const PROGRESS = script(source("session-progress.lua"));
const SPARE_MS = 30_000;

/**
 * The position a client resumes from. A client whose offset is the last thing that was sent has everything up to
 * `as_of`, however long ago that offset was: a quiet connection does not fall out of the window.
 */
export function resumePosition(session: SessionRecord, offset: unknown): SequenceId {
  const at = isSequenceId(offset) ? laterSequence(offset, session.began) : session.began;
  return compareSequence(at, session.last_sent) >= 0 ? laterSequence(at, session.as_of) : at;
}

export class Sessions {
  readonly #keptForMs: number;

  constructor(
    private readonly redis: Redis,
    private readonly keys: RedisKeys,
    windowMs: number,
  ) {
    this.#keptForMs = keptForMs(windowMs) + SPARE_MS;
  }

  async load(pid: string): Promise<SessionRecord | undefined> {
    const hash = await this.redis.hgetall(this.keys.session(pid));
    const { user_id, epoch, connection_id, began, last_sent, as_of, filters, asked } = hash;
    if (!user_id || !epoch || !filters || !asked) return undefined;
    const position = (id: string | undefined) => (isSequenceId(id) ? id : SEQUENCE_START);
    return {
      user_id,
      epoch,
      connection_id: connection_id ?? "",
      began: position(began),
      last_sent: position(last_sent),
      as_of: position(as_of),
      filters: JSON.parse(filters),
      asked: JSON.parse(asked),
    };
  }

  /**
   * Takes the session over for a connection that begins.
   * @param from the connection that had it when it was loaded; "" for a new session
   * @returns false when another connection took it meanwhile
   */
  claim(pid: string, session: SessionRecord, from: string): Promise<boolean> {
    return this.#write("claim", pid, session, from);
  }

  /** Writes the session for the connection that has it, or where Redis lost it; false if it is another's. */
  keep(pid: string, session: SessionRecord): Promise<boolean> {
    return this.#write("keep", pid, session, "");
  }

  async #write(mode: "claim" | "keep", pid: string, session: SessionRecord, from: string): Promise<boolean> {
    const { connection_id, filters, asked, ...fields } = session;
    const texts = { ...fields, filters: JSON.stringify(filters), asked: JSON.stringify(asked) };
    const pairs = Object.entries(texts).flat();
    const args = [mode, connection_id, from, this.#keptForMs, ...pairs];
    return (await runScript(this.redis, SAVE, [this.keys.session(pid)], args)) === 1;
  }

  /** @param over these connections have ended */
  async noteProgress(progress: SessionProgress[], over: boolean): Promise<void> {
    if (progress.length === 0) return;
    await runScript(
      this.redis,
      PROGRESS,
      progress.map(({ pid }) => this.keys.session(pid)),
      [this.#keptForMs, over ? 1 : 0, ...progress.flatMap((p) => [p.connection_id, p.last_sent, p.as_of])],
    );
  }
}
