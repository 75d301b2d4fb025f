import { readFileSync } from "node:fs";
import { expect } from "chai";
import type { SlotLimits } from "../../server/src/redis/slots.js";
import { keys, LEASE_MS, NO_LIMITS, slotRig } from "../harness/slots-rig.js";

const SECOND = 1000;

describe("slots", () => {
  const rig = slotRig();

  describe("the scripts, to the millisecond", () => {
    const NOW = 1_700_000_000_000;
    const WINDOW = 60_000;
    const source = (name: string) =>
      readFileSync(new URL(`../../server/src/redis/${name}`, import.meta.url), "utf8");
    /** The script, at a time that stands still. */
    const at = (name: string, now: number) => {
      const still = source(name).replace(
        "redis.call('TIME')",
        `{ '${Math.floor(now / SECOND)}', '${(now % SECOND) * 1000 + 999}' }`,
      );
      expect(still).not.to.include("'TIME'");
      return still;
    };
    const of = keys.userConnections("anna");
    const from = keys.rateLimitIp("192.0.2.1");
    const owed = keys.owedIp("192.0.2.1");
    const take = (
      limits: Partial<SlotLimits>,
      { id = "new", since = "" as number | "", over = false } = {},
    ) => {
      const { cluster, perUser, perAddressAndMinute } = { ...NO_LIMITS, ...limits };
      const args = [
        "take",
        cluster,
        perAddressAndMinute,
        WINDOW,
        perUser,
        id,
        LEASE_MS,
        since,
        over ? "over" : "",
      ];
      return rig.redis.eval(at("slot-take.lua", NOW), 4, keys.leases, from, owed, of, ...args);
    };
    const look = (limits: Partial<SlotLimits>) => {
      const { cluster, perAddressAndMinute } = { ...NO_LIMITS, ...limits };
      return rig.redis.eval(
        at("slot-take.lua", NOW),
        3,
        keys.leases,
        from,
        owed,
        "look",
        cluster,
        perAddressAndMinute,
        WINDOW,
      );
    };
    const renew = (limits: Partial<SlotLimits>, ...ids: string[]) => {
      const { cluster, perUser } = { ...NO_LIMITS, ...limits };
      const users = ids.map(() => of);
      const args = [LEASE_MS, cluster, perUser, ...ids];
      return rig.redis.eval(at("slot-renew.lua", NOW), 1 + users.length, keys.leases, ...users, ...args);
    };
    const put = async (key: string, scores: Record<string, number>) => {
      for (const [id, score] of Object.entries(scores)) await rig.redis.zadd(key, score, id);
    };

    it("[D23] a place is one until its lease ends, and not when it does", async () => {
      await put(keys.leases, { a: NOW + 1 });
      await put(of, { a: NOW + 1 });
      expect(await look({ cluster: 1 })).to.deep.equal([1]);
      expect(await take({ cluster: 1 })).to.deep.equal([1]);
      expect(await take({ perUser: 1 })).to.deep.equal([3, 0, NOW]);
      await put(keys.leases, { a: NOW });
      await put(of, { a: NOW });
      expect(await look({ cluster: 1 })).to.deep.equal([0, ""]);
      expect(await take({ cluster: 1, perUser: 1 })).to.deep.equal([0, ""]);
      expect(await rig.redis.zscore(of, "a")).to.equal(null);
      for (const key of [of, keys.leases])
        expect(await rig.redis.zscore(key, "new")).to.equal(String(NOW + LEASE_MS));
      expect(await rig.redis.exists(from), "no limit, no list").to.equal(0);
      expect(await take({ cluster: 1, perUser: 1 }, { id: "more" })).to.deep.equal([1]);
    });

    it("[D23] an address counts for exactly a minute, and is told when it may come again", async () => {
      const two = { perAddressAndMinute: 2 };
      await put(from, { a: NOW - WINDOW + 1, b: NOW - 5 });
      expect(await look(two)).to.deep.equal([2, 1]);
      expect(await take(two)).to.deep.equal([2, 1]);
      expect(await rig.redis.exists(keys.leases), "nothing is taken").to.equal(0);
      await put(from, { a: NOW - WINDOW });
      expect(await look(two)).to.deep.equal([0, ""]);
      expect(await take(two)).to.deep.equal([0, ""]);
      expect(await rig.redis.zrange(from, "0", "-1", "WITHSCORES")).to.deep.equal([
        "b",
        String(NOW - 5),
        "new",
        String(NOW),
      ]);
      expect(await rig.redis.pttl(from)).to.be.within(WINDOW - 5000, WINDOW);
      expect(await take(two, { id: "more" })).to.deep.equal([2, WINDOW - 5]);
      // A limit that was lowered: so many must leave first.
      expect(await take({ perAddressAndMinute: 1 }, { id: "more" })).to.deep.equal([2, WINDOW]);
    });

    it("[D23] what died does not count for its address, what was closed does", async () => {
      const two = { perAddressAndMinute: 2 };
      await put(from, { died: NOW - 20_000, closed: NOW - 20_000 });
      await put(keys.leases, { died: NOW + 1 });
      expect(await take(two)).to.deep.equal([2, WINDOW - 20_000]);
      await put(keys.leases, { died: NOW });
      expect(await take(two)).to.deep.equal([0, ""]);
      expect(await rig.redis.zrange(from, "0", "-1")).to.deep.equal(["closed", "new"]);
      expect(await rig.redis.zrange(keys.leases, "0", "-1"), "it stays for a minute").to.deep.equal([
        "died",
        "new",
      ]);
      await put(keys.leases, { died: NOW - WINDOW });
      await look(two);
      expect(await rig.redis.zscore(keys.leases, "died")).to.equal(null);
    });

    it("[D32][D23] what an address lost through no fault of its own it may have again, once, and nothing beyond", async () => {
      const two = { perAddressAndMinute: 2 };
      const owe = (lost: Record<string, "1" | "">) => {
        const names = Object.keys(lost).flatMap(() => [from, owed]);
        return rig.redis.eval(
          source("slot-owe.lua"),
          names.length,
          ...names,
          WINDOW,
          ...Object.entries(lost).flat(),
        );
      };
      await put(keys.leases, { recent: NOW + 1 });
      await put(from, { recent: NOW - 1000 });
      // One that counts still counts no more; two that did not any more may come beyond the limit.
      await owe({ recent: "", forgiven: "1", old: "", older: "" });
      expect(await rig.redis.zcard(from)).to.equal(0);
      expect(await rig.redis.get(owed)).to.equal("2");
      expect(await rig.redis.pttl(owed)).to.be.within(1, WINDOW);
      for (const id of ["a", "b", "c", "d"]) expect(await take(two, { id })).to.deep.equal([0, ""]);
      expect(await rig.redis.zrange(from, "0", "-1")).to.have.members(["a", "b"]);
      expect(await rig.redis.get(owed)).to.equal("0");
      expect(((await look(two)) as number[])[0]).to.equal(2);
      expect(((await take(two, { id: "e" })) as number[])[0]).to.equal(2);
    });

    it("[D23] silent is whoever was last renewed before that time, not at it; the longest silent goes first", async () => {
      const two = { perUser: 2 };
      const since = NOW - 1000;
      await put(of, { a: since + LEASE_MS, b: since + LEASE_MS + 1 });
      await put(keys.leases, { a: since + LEASE_MS, b: since + LEASE_MS + 1 });
      expect(await take(two)).to.deep.equal([3, 0, NOW]);
      expect(await take(two, { since })).to.deep.equal([3, 0, NOW]);
      expect(await take(two, { since, over: true })).to.deep.equal([3, 0, NOW]);
      expect(await take(two, { since: since + 1 })).to.deep.equal([3, 1, NOW]);
      expect(await take(two, { since: since + 2 })).to.deep.equal([3, 2, NOW]);
      expect(await take(two, { since: since + 2, over: true })).to.deep.equal([0, "a"]);
      for (const key of [of, keys.leases])
        expect(await rig.redis.zrange(key, "0", "-1")).to.deep.equal(["b", "new"]);
      // Where there is a free place nobody loses one.
      await rig.redis.zrem(of, "new");
      expect(await take(two, { id: "more", since: NOW, over: true })).to.deep.equal([0, ""]);
      expect(await rig.redis.zrange(of, "0", "-1")).to.deep.equal(["b", "more"]);
    });

    it("[D23] a user's silent place does not help where the cluster or the address has no room", async () => {
      await put(of, { a: NOW + 1 });
      await put(keys.leases, { a: NOW + 1 });
      await put(from, { a: NOW - 1 });
      const over = { since: NOW, over: true };
      expect(await take({ perUser: 1, cluster: 1 }, over)).to.deep.equal([1]);
      expect(await take({ perUser: 1, perAddressAndMinute: 1 }, over)).to.deep.equal([2, WINDOW - 1]);
      expect(await take({ perUser: 1 }, over)).to.deep.equal([0, "a"]);
    });

    it("[D23] who has a lease keeps it, however many there are; who has none needs room", async () => {
      const limits = { perUser: 2, cluster: 3 };
      await put(of, { a: NOW + 1, b: NOW + 1, c: NOW + 1 });
      await put(keys.leases, { a: NOW + 1, b: NOW + 1, c: NOW + 1, d: NOW });
      expect(await renew(limits, "a", "b", "c", "d")).to.deep.equal(["d"]);
      expect(await rig.redis.zrange(of, "0", "-1", "WITHSCORES")).to.deep.equal(
        ["a", "b", "c"].flatMap((id) => [id, String(NOW + LEASE_MS)]),
      );
      await put(of, { b: NOW, c: NOW });
      await put(keys.leases, { b: NOW, c: NOW });
      expect(await renew(limits, "c", "b")).to.deep.equal(["b"]);
      await put(keys.leases, { x: NOW + 1, y: NOW + 1 });
      await put(of, { c: NOW });
      await put(keys.leases, { c: NOW });
      expect(await renew(limits, "c"), "the cluster is full").to.deep.equal(["c"]);
      expect(await renew({}, "c", "b")).to.deep.equal([]);
      expect(await rig.redis.ttl(of)).to.be.within(86_000, 86_400);
    });
  });
});
