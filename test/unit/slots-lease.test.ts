import { expect } from "chai";
import { judgeHandshake } from "../../server/src/door/handshake.js";
import { Client, keys, LEASE_MS, slotRig } from "../harness/slots-rig.js";
import { until } from "../harness/wait.js";

const SECOND = 1000;

describe("slots", () => {
  const rig = slotRig();
  const { cluster, places, ofUser, pass } = rig;

  it("[D23] what never opened does not count for its address, what did does", async () => {
    const { at } = cluster(1, { perAddressAndMinute: 2 });
    const never = await at(0).knock("anna");
    (never as Client).close();
    const was = await at(0).enter("anna");
    was.close();
    await at(0).slots.emptied();
    expect(await rig.redis.zrange(keys.rateLimitIp("192.0.2.1"), "0", "-1")).to.deep.equal([was.id]);
  });

  it("[D23] whoever resumes frees the place it had, also where nobody is left to hear it", async () => {
    const { at } = cluster(2, { perUser: 2 });
    const former = await at(0).enter("anna");
    at(0).state = "dead";
    const came = await at(1).enter("anna");
    await at(1).slots.replace(former.id, "anna");
    expect(await ofUser("anna")).to.deep.equal([came.id]);
    expect(await places(keys.leases)).to.deep.equal([came.id]);
  });

  it("[D23] a beat renews every place, however many there are", async () => {
    const { at } = cluster(1, {});
    const knocks = Array.from({ length: 250 }, (_, n) => at(0).knock(`user-${n % 7}`));
    const all = await Promise.all(knocks);
    await pass(LEASE_MS - SECOND);
    await at(0).slots.renewAll();
    await pass(LEASE_MS - SECOND);
    expect(await places(keys.leases)).to.have.members(all.map((one) => (one as Client).id));
  });

  it("[D23] a node that was away for longer than a lease takes back no place that others have now", async () => {
    const { at } = cluster(2, { perUser: 2 });
    const former = [await at(0).enter("anna"), await at(0).enter("anna"), await at(0).enter("ben")];
    await pass(LEASE_MS);
    const newer = [await at(1).enter("anna")];
    await at(0).slots.renewAll();
    expect(await ofUser("anna"))
      .to.have.length(2)
      .and.include((newer[0] as Client).id);
    expect(former.map(({ closed }) => closed)).to.deep.equal([false, true, false]);
    expect(await ofUser("ben")).to.deep.equal([(former[2] as Client).id]);
    await at(0).slots.emptied();
    expect(await places(keys.leases)).to.have.length(3);
  });

  it("[D23] nor one of the cluster's, when it is full", async () => {
    const { at } = cluster(2, { cluster: 2 });
    const former = [await at(0).enter("anna"), await at(0).enter("ben")];
    await pass(LEASE_MS);
    await at(1).enter("carl");
    await at(0).slots.renewAll();
    expect(former.map(({ closed }) => closed)).to.deep.equal([false, true]);
    await at(0).slots.emptied();
    expect(await places(keys.leases)).to.have.length(2);
    expect(await at(1).knock("dora")).to.equal("CLUSTER_FULL");
  });

  it("[D23] a node that did not hear that a place was taken over ends the connection at its next beat", async () => {
    const { at } = cluster(2, { perUser: 1 });
    const former = await at(0).enter("anna");
    former.alive = false;
    at(0).deaf = true;
    await pass(1);
    const came = await at(1).enter("anna");
    former.alive = true;
    await at(0).slots.renewAll();
    expect(former.closed).to.equal(true);
    await at(0).slots.emptied();
    expect(await ofUser("anna")).to.deep.equal([came.id]);
  });

  it("[D23] a connection that loses its place is not renewed while it ends", async () => {
    const { at } = cluster(2, { perUser: 0 });
    const former = await at(0).enter("anna");
    // It has last words to say.
    const { close } = former;
    let told = false;
    former.close = () => {
      told = true;
    };
    const came = await at(1).enter("anna");
    await at(1).slots.replace(former.id, "anna");
    await until("it is told", () => told);
    await at(0).slots.renewAll();
    expect(await ofUser("anna")).to.deep.equal([came.id]);
    close.call(former);
    await at(0).slots.emptied();
    expect(await places(keys.leases)).to.deep.equal([came.id]);
  });

  it("[D23] a place that was taken over before its connection was open: it ends as soon as it is", async () => {
    const { at } = cluster(2, { perUser: 1 });
    const slow = await at(0).knock("anna");
    if (!(slow instanceof Client)) throw new Error(slow);
    await pass(1);
    const came = await at(1).enter("anna");
    await new Promise((heard) => setTimeout(heard, 5));
    slow.open();
    expect(slow.closed).to.equal(true);
    await at(0).slots.renewAll();
    expect(await ofUser("anna")).to.deep.equal([came.id]);
  });

  it("[D17] a handshake that the end of the node overtakes takes no place", async () => {
    const { at } = cluster(1, {});
    const { slots } = at(0);
    let closed = false;
    const verdict = await judgeHandshake(
      {
        url: "/socket.io/?EIO=4&transport=polling&token=x",
        method: "GET",
        headers: {},
      } as Parameters<typeof judgeHandshake>[0],
      new URLSearchParams("EIO=4&transport=polling&token=x"),
      false,
      {
        closed: () => (closed ? { code: "DRAINING", message: "", retry: "later" } : undefined),
        origin: { allows: () => true, headers: () => ({}) },
        address: () => "192.0.2.1",
        verify: async () => ({ id: "anna", claims: {}, expiresAt: Number.POSITIVE_INFINITY }),
        policy: {
          async projectsOf() {
            closed = true;
            return new Set<string>();
          },
        },
        maxFilterIds: 50,
        slots,
      },
    );
    expect(verdict).to.deep.include({ userId: "anna" });
    expect("refused" in verdict && verdict.refused.code).to.equal("DRAINING");
    await slots.emptied();
    await slots.renewAll();
    expect(await rig.redis.zcard(keys.leases)).to.equal(0);
  });
});
