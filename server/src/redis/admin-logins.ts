import { createHmac, randomUUID } from "node:crypto";
import { readFileSync } from "node:fs";
import { type RedisKeys, runScript, script } from "@agentwire/shared/redis";
import type { Redis } from "ioredis";

const ATTEMPTS = script(readFileSync(new URL("../../src/redis/admin-attempts.lua", import.meta.url), "utf8"));

const SESSION_S = 8 * 3600;
const WINDOW_MS = 60_000;
const ATTEMPTS_PER_ADDRESS = 5;
const ATTEMPTS_IN_ALL = 20;
/** No address is written so. */
const ANYWHERE = "all";

/** Sessions and attempts of the operators of all nodes. Everything rejects when Redis does not answer. */
export class AdminLogins {
  /** @param password the setting: with another one, the sessions of the former are worth nothing */
  constructor(
    private readonly redis: Redis,
    private readonly keys: RedisKeys,
    private readonly password: string,
  ) {}

  async sessionExists(id: string): Promise<boolean> {
    return (await this.redis.exists(this.#session(id))) === 1;
  }

  /** For 8 hours. */
  async saveSession(id: string): Promise<void> {
    await this.redis.set(this.#session(id), "1", "EX", SESSION_S);
  }

  /** @returns false over 5 attempts in any minute from this address, or 20 from anywhere */
  async attempt(address: string): Promise<boolean> {
    const windows = [address, ANYWHERE].map((from) => this.keys.rateLimitAdmin(from));
    const args = [randomUUID(), WINDOW_MS, ATTEMPTS_PER_ADDRESS, ATTEMPTS_IN_ALL];
    return (await runScript(this.redis, ATTEMPTS, windows, args)) === 1;
  }

  /** Who reads Redis learns no session from it. */
  #session(id: string): string {
    return this.keys.adminSessionPrefix + createHmac("sha256", this.password).update(id).digest("hex");
  }
}
