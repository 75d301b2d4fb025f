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
    return shortage(answer) ?? { former: String(answer[1]) };
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

  /** As {@link release}, for a connection that the node ends and that may come back whatever its address' limit is. */
  async vacate(slot: Slot): Promise<void> {
    await this.release(slot);
    await this.owe([slot]);
  }

  /** These connections were lost through no fault of their addresses. */
  async owe(lost: Pick<Slot, "connectionId" | "address">[]): Promise<void> {
    if (lost.length === 0) return;
    const keys = lost.flatMap(({ address }) => [this.keys.rateLimitIp(address), this.keys.owedIp(address)]);
    const ids = lost.map(({ connectionId }) => connectionId);
    await runScript(this.redis, OWE, keys, [MINUTE_MS, ...ids]);
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
