import { readFileSync } from "node:fs";
import { keptForMs } from "@agentwire/shared";
import { type RedisKeys, runScript, script } from "@agentwire/shared/redis";
import type { Redis } from "ioredis";

const AUDIENCE = script(readFileSync(new URL("../../src/redis/audience.lua", import.meta.url), "utf8"));

/** A user stays in the audience for the window after it left, which may be this long after the last refresh. */
const SPARE_MS = 60_000;

/** Who gets replay entries: users connected now, or within the window. */
export class Audience {
  constructor(
    private readonly redis: Redis,
    private readonly keys: RedisKeys,
    private readonly windowMs: number,
  ) {}

  async keep(userId: string, projectIds: Iterable<string>): Promise<void> {
    const projects = [...projectIds];
    if (projects.length === 0) return;
    await runScript(
      this.redis,
      AUDIENCE,
      [
        this.keys.head,
        this.keys.audienceSince(userId),
        this.keys.replay(userId),
        ...projects.map(this.keys.audience),
      ],
      [userId, keptForMs(this.windowMs) + SPARE_MS, keptForMs(this.windowMs), ...projects],
    );
  }
}
