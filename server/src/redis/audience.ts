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

  async keep(audience: Map<string, ReadonlySet<string>>): Promise<void> {
    const keys: string[] = [];
    const about: (string | number)[] = [];
    for (const [user, projects] of audience) {
      if (projects.size === 0) continue;
      keys.push(this.keys.audienceSince(user), this.keys.replay(user));
      about.push(user, projects.size);
      for (const project of projects) {
        keys.push(this.keys.audience(project));
        about.push(project);
      }
    }
    if (keys.length === 0) return;
    const kept = keptForMs(this.windowMs);
    await runScript(this.redis, AUDIENCE, [this.keys.head, ...keys], [kept + SPARE_MS, kept, ...about]);
  }
}
