import { setTimeout as pause } from "node:timers/promises";
import { expect } from "chai";
import type { SlotLimits } from "../../server/src/redis/slots.js";
import { createRandom } from "../fuzz/random.js";
import { Client, keys, LEASE_MS, SlotNode, slotRig } from "../harness/slots-rig.js";

const SECOND = 1000;

describe("slots", () => {
  const rig = slotRig();
  const { cluster, now, places, ofUser, pass } = rig;

  describe("whatever happens", () => {
    const LIMITS: SlotLimits = { cluster: 8, perUser: 3, perAddressAndMinute: 6 };
    const USERS = ["anna", "ben", "carl"];
    const ADDRESSES = ["192.0.2.1", "192.0.2.2"];
    const BEAT_MS = 5 * SECOND;

    async function world(seed: number) {
      const random = createRandom(seed);
      const times = { answer: 20, look: 4, young: -1 };
      /** A call of before would still take who did not answer it. */
      const forgotten = () => pause(2 * times.answer + 10);
      const { air, table, all } = cluster(3, LIMITS, times);
      const { pick, chance, below } = random;
      const active = () => all.filter(({ state }) => state === "active");
      const clients = () => all.filter(({ state }) => state !== "dead").flatMap((node) => [...node.clients]);
      const byUser = (user: string) => clients().filter(({ slot }) => slot.userId === user);
      /** Why a connection may lose its place now. */
      let mayLose: (client: Client) => boolean = () => false;
      const story: string[] = [];

      const heard = async () => {
        await pause(5);
        for (const { slots } of all) await slots.emptied();
      };
      const check = async () => {
        const leases = await places(keys.leases);
        expect(leases.length, "in all").to.be.at.most(LIMITS.cluster);
        const users = await Promise.all(USERS.map(ofUser));
        for (const own of users) expect(own.length, "of a user").to.be.at.most(LIMITS.perUser);
        expect(leases).to.have.members(users.flat());
        for (const address of ADDRESSES)
          expect(await rig.redis.zcard(keys.rateLimitIp(address))).to.be.at.most(LIMITS.perAddressAndMinute);
        // Who is connected to a node that works has a place.
        for (const node of active())
          for (const { id, opened } of node.clients) if (opened) expect(leases, id).to.include(id);
      };
      /** Redis is asked what must come of it. */
      const expected = async (user: string, address: string) => {
        const time = await now();
        const leases = await places(keys.leases);
        if (leases.length >= LIMITS.cluster) return ["CLUSTER_FULL"];
        let recent = 0;
        for (const id of await rig.redis.zrangebyscore(
          keys.rateLimitIp(address),
          `(${time - 60_000}`,
          "+inf",
        )) {
          const till = await rig.redis.zscore(keys.leases, id);
          if (till === null || Number(till) > time) recent++;
        }
        if (recent >= LIMITS.perAddressAndMinute) return ["IP_RATE_LIMITED"];
        const own = await ofUser(user);
        if (own.length < LIMITS.perUser) return ["in"];
        const present = new Set(
          active().flatMap((node) =>
            [...node.clients].flatMap((one) => (one.opened && one.alive ? one.id : [])),
          ),
        );
        return own.every((id) => present.has(id)) ? ["USER_CONNECTION_LIMIT"] : ["in"];
      };
      const come = async (
        node: SlotNode,
        user: string,
        address: string,
        opens = chance(0.8),
        alive = chance(0.7),
      ) => {
        const came = await node.knock(user, address);
        if (came instanceof Client && opens) {
          came.alive = alive;
          came.open();
        }
        return came instanceof Client ? "in" : came;
      };
      const watch = () => {
        const before = clients();
        return () => {
          for (const one of before)
            if (one.closed && !mayLose(one))
              throw new Error(`${one.id} of ${one.slot.userId} lost its place`);
        };
      };

      const one = async (): Promise<void> => {
        const [node, user, address] = [pick(active()), pick(USERS), pick(ADDRESSES)];
        const [wanted] = await expected(user, address);
        const silent = new Set(
          byUser(user).filter((one) => !(one.opened && one.alive && one.node.state === "active")),
        );
        mayLose = (one) => silent.has(one);
        let came = await come(node, user, address);
        if (came === "USER_CONNECTION_LIMIT" && wanted === "in") {
          // It shared a call, and somebody silent has come since: that one is called for when the call is forgotten.
          await forgotten();
          came = await come(node, user, address);
        }
        story.push(`${user} at ${all.indexOf(node)} from ${address}: ${came}`);
        expect(came).to.equal(wanted);
      };
      const step = async (): Promise<void> => {
        const dice = below(100);
        mayLose = () => false;
        const lost = watch();
        if (dice < 45) await one();
        else if (dice < 52) {
          // Many at once, of one user.
          const user = pick(USERS);
          mayLose = ({ slot }) => slot.userId === user;
          const before = await ofUser(user);
          const answers = await Promise.all(
            Array.from({ length: 6 }, () => come(pick(active()), user, pick(ADDRESSES), true, true)),
          );
          story.push(`six of ${user}: ${answers}`);
          const came = answers.filter((one) => one === "in").length;
          expect(came).to.be.at.most(LIMITS.perUser);
          if (answers.every((one) => one === "in" || one === "USER_CONNECTION_LIMIT"))
            expect(came, "no free place is left").to.be.at.least(LIMITS.perUser - before.length);
        } else if (dice < 67) {
          const one = pick(clients());
          if (one?.node.state !== "active") return;
          mayLose = (other) => other === one;
          story.push(`${one.id} of ${one.slot.userId} leaves, or opens`);
          if (one.opened) one.close();
          else one.open();
          await forgotten();
        } else if (dice < 77) {
          const one = pick(clients());
          if (one) one.alive = !one.alive;
          await forgotten();
        } else if (dice < 80 && active().length > 1) {
          const node = pick(active());
          story.push(`${all.indexOf(node)} is killed`);
          node.state = "dead";
          air.nodes.splice(air.nodes.indexOf(node), 1);
          // Another one comes in its place.
          all.push(new SlotNode(table, air, times));
        } else if (dice < 84 && active().length > 1) {
          const node = pick(active());
          story.push(`${all.indexOf(node)} is paused`);
          node.state = "paused";
        } else if (dice < 90) {
          const node = all.find(({ state }) => state === "paused");
          if (!node) return;
          story.push(`${all.indexOf(node)} goes on`);
          // What it lost meanwhile others have.
          mayLose = (one) => one.node === node;
          const had = await Promise.all(
            [...node.clients].map(async ({ id }) => rig.redis.zscore(keys.leases, id)),
          );
          const time = await now();
          const unharmed = had.every((till) => till !== null && Number(till) > time);
          node.resume();
          // It hears the calls of meanwhile; who does not answer is not renewed while they last.
          await forgotten();
          await heard();
          const left = node.clients.size;
          await node.slots.renewAll();
          if (unharmed) expect(node.clients.size).to.equal(left);
        } else {
          const beats = 1 + below(5);
          story.push(`${beats} beats`);
          for (let n = 0; n < beats; n++) {
            await pass(BEAT_MS);
            for (const { slots } of active()) await slots.renewAll();
          }
        }
        await heard();
        lost();
      };
      return { step, check, story, all };
    }

    for (let seed = 1; seed <= 8; seed++) {
      it(`[D23] the limits hold, a free place is given, who answers loses none (${seed})`, async () => {
        const { step, check, story, all } = await world(seed);
        try {
          for (let n = 0; n < 60; n++) {
            await step();
            await check();
          }
        } catch (error) {
          throw new Error(`${error}\nafter ${story.slice(-12).join("\n      ")}`, { cause: error });
        }
        for (const { errors } of all) expect(errors).to.deep.equal([]);
      });
    }

    it("[D23] the places of a killed node are free after the lease, its address counts no more for them", async () => {
      const { at } = cluster(2, { cluster: 3, perUser: 3, perAddressAndMinute: 3 });
      for (let n = 0; n < 3; n++) await at(0).enter("anna");
      at(0).state = "dead";
      expect(await at(1).knock("ben")).to.equal("CLUSTER_FULL");
      await pass(LEASE_MS - 1 * SECOND);
      expect(await at(1).knock("ben")).to.equal("CLUSTER_FULL");
      await pass(SECOND);
      for (let n = 0; n < 3; n++) await at(1).enter("ben");
      expect(await at(1).knock("ben")).to.equal("CLUSTER_FULL");
    });
  });
});
