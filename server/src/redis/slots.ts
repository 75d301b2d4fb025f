import { readFileSync } from "node:fs";
import { type RedisKeys, runScript, script } from "@agentwire/shared/redis";
import type { Redis } from "ioredis";
import { replies } from "./pipeline.js";

const source = (name: string) => readFileSync(new URL(`../../src/redis/${name}`, import.meta.url), "utf8");
const TAKE = script(source("slot-take.lua"));
const RENEW = script(source("slot-renew.lua"));
const OWE = script(source("slot-owe.lua"));

/** A connection that says nothing for this long has no place any more: its node is taken for dead. */
const LEASE_MS = 15_000;
const MINUTE_MS = 60_000;
/** So many at once: others wait for Redis for a few milliseconds at most. */
const PAGE = 200;

/** One connection's place in the cluster. */
export interface Slot {
  connectionId: string;
  userId: string;
  /** What the limit per address counts as one. */
  address: string;
}

/** The limits; 0 is none. */
export interface SlotLimits {
  cluster: number;
  perUser: number;
  perAddressAndMinute: number;
}

/** Why there is no place. `silent`: so many of the user's connections did not answer since they were called. */
export type Shortage =
  | { code: "CLUSTER_FULL" }
  | { code: "IP_RATE_LIMITED"; retryAfterMs: number }
  | { code: "USER_CONNECTION_LIMIT"; silent: number; now: number };

/** The places for connections, as they stand in Redis. */
export class SlotTable {
  constructor(
    private readonly redis: Redis,
    private readonly keys: RedisKeys,
    private readonly limits: SlotLimits,
  ) {}

  /** Whether the cluster and this address have room, without taking any of it. */
  async look(address: string): Promise<Shortage | undefined> {
    const { cluster, perAddressAndMinute } = this.limits;
    if (cluster === 0 && perAddressAndMinute === 0) return undefined;
    const keys = this.#keysOf(address);
    const answer = await runScript(this.redis, TAKE, keys, ["look", cluster, perAddressAndMinute, MINUTE_MS]);
    return shortage(answer as Answer);
  }

  /**
   * Takes a place, or says why there is none.
   *
   * @param silentSince places whose lease was last renewed before this (ms, Redis' time) are counted as silent
   * @param takeOver one of those may be taken
   * @returns the connection whose place was taken over, "" where none was
   */
  async take(
    { connectionId, userId, address }: Slot,
    silentSince?: number,
    takeOver = false,
  ): Promise<Shortage | { former: string }> {
    const { cluster, perUser, perAddressAndMinute } = this.limits;
    const keys = [...this.#keysOf(address), this.keys.userConnections(userId)];
    const answer = (await runScript(this.redis, TAKE, keys, [
      "take",
      cluster,
      perAddressAndMinute,
      MINUTE_MS,
      perUser,
      connectionId,
      LEASE_MS,
      silentSince ?? "",
      takeOver ? "over" : "",
    ])) as Answer;
    const none = shortage(answer);
    if (none) return none;
    const former = String(answer[1]);
    if (former !== "") await this.redis.del(this.keys.connection(former));
    return { former };
  }

  /**
   * Renews the leases of connections that are still here; also puts back what Redis has lost.
   * @returns the connections that have no place any more: their leases had ended, and others have their places
   */
  async renew(slots: Pick<Slot, "connectionId" | "userId">[]): Promise<string[]> {
    if (slots.length === 0) return [];
    const { cluster, perUser } = this.limits;
    const users = slots.map(({ userId }) => this.keys.userConnections(userId));
    const ids = slots.map(({ connectionId }) => connectionId);
    const args = [LEASE_MS, cluster, perUser, ...ids];
    return (await runScript(this.redis, RENEW, [this.keys.leases, ...users], args)) as string[];
  }

  /** Gives a place back. @param neverOpened as if it had not been taken: it does not count for its address either */
  async release({ connectionId, userId, address }: Slot, neverOpened = false): Promise<void> {
    const pipeline = this.redis
      .pipeline()
      .zrem(this.keys.leases, connectionId)
      .zrem(this.keys.userConnections(userId), connectionId);
    if (neverOpened) pipeline.zrem(this.keys.rateLimitIp(address), connectionId);
    await replies(pipeline);
  }

  /** Gives the place of a connection back whose client has another one, and its record: its node may be dead. */
  async replace(connectionId: string, userId: string): Promise<void> {
    await this.release({ connectionId, userId, address: "" });
    await this.redis.del(this.keys.connection(connectionId));
  }

  /** Connections that were lost through no fault of their addresses; of those that died, how long ago (ms) they came. */
  async owe(lost: (Pick<Slot, "connectionId" | "address"> & { diedAged?: number })[]): Promise<void> {
    for (let start = 0; start < lost.length; start += PAGE) {
      const page = lost.slice(start, start + PAGE);
      const keys = page.flatMap(({ address }) => [this.keys.rateLimitIp(address), this.keys.owedIp(address)]);
      const isYoung = (age = Number.POSITIVE_INFINITY) => age < MINUTE_MS;
      const about = page.flatMap(({ connectionId, diedAged }) => [
        connectionId,
        isYoung(diedAged) ? "1" : "",
      ]);
      await runScript(this.redis, OWE, keys, [MINUTE_MS, ...about]);
    }
  }

  #keysOf(address: string): string[] {
    return [this.keys.leases, this.keys.rateLimitIp(address), this.keys.owedIp(address)];
  }
}

type Answer = [0, string] | [1] | [2, number] | [3, number, number];

function shortage(answer: Answer): Shortage | undefined {
  switch (answer[0]) {
    case 0:
      return undefined;
    case 1:
      return { code: "CLUSTER_FULL" };
    case 2:
      return { code: "IP_RATE_LIMITED", retryAfterMs: answer[1] };
    case 3:
      return { code: "USER_CONNECTION_LIMIT", silent: answer[1], now: answer[2] };
  }
}
