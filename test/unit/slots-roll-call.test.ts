import { setTimeout as pause } from "node:timers/promises";
import { expect } from "chai";
import { Client, LEASE_MS, slotRig } from "../harness/slots-rig.js";
import { until } from "../harness/wait.js";

describe("slots", () => {
  const { cluster, ofUser, pass } = slotRig();

  it("[D23] a notice that fails takes no place for ever: who comes in has it, whoever lost it does not get it back", async () => {
    const { air, at } = cluster(2, { perUser: 1 });
    const lost = await at(0).enter("anna");
    lost.alive = false;
    const call = at(1).knock("anna");
    await until("the roll is called", () => air.said.length === 1);
    air.fails = true;
    const came = await call.catch(String);
    air.fails = false;
    for (const { slots } of air.nodes) await slots.renewAll();
    const held = await ofUser("anna");
    expect(held).to.have.length(1);
    if (came instanceof Client) {
      came.open();
      expect(held).to.deep.equal([came.id]);
      expect(lost.closed).to.equal(true);
      came.close();
    }
    await at(1).slots.emptied();
    await pass(LEASE_MS);
    for (const { slots } of air.nodes) await slots.renewAll();
    expect(at(1).clients.size === 0 ? await ofUser("anna") : []).to.deep.equal([]);
  });

  it("[D23] where the call did not get through nobody loses a place: the next one calls again", async () => {
    const { air, at } = cluster(2, { perUser: 1 });
    const alive = await at(0).enter("anna");
    air.fails = true;
    const failed = await at(1)
      .knock("anna")
      .catch(() => "failed");
    air.fails = false;
    expect(failed).to.equal("failed");
    expect(await at(1).knock("anna")).to.equal("USER_CONNECTION_LIMIT");
    expect(alive.asked).to.equal(1);
    expect(alive.closed).to.equal(false);
  });

  it("[D23] a call that takes long to get through leaves as much time to answer", async () => {
    const { air, at } = cluster(2, { perUser: 1 }, { answer: 100, look: 5, young: -1 });
    const alive = await at(0).enter("anna");
    alive.delay = 50;
    const publish = air.publish.bind(air);
    air.publish = async (notice) => {
      await pause(120);
      await publish(notice);
    };
    expect(await at(1).knock("anna")).to.equal("USER_CONNECTION_LIMIT");
    expect(alive.closed).to.equal(false);
  });

  it("[D23] two nodes call the roll, one while the other still waits: who answers keeps its place", async () => {
    const { air, at } = cluster(3, { perUser: 2 }, { answer: 200, look: 5, young: -1 });
    const alive = await at(0).enter("anna");
    const silent = await at(0).enter("anna");
    silent.alive = false;
    const first = at(1).knock("anna");
    await until("the first roll is called", () => air.said.length === 1);
    await pause(60);
    const second = at(2).knock("anna");
    expect([await first, await second].filter((one) => one instanceof Client)).to.have.length(1);
    expect(await ofUser("anna"))
      .to.have.length(2)
      .and.include(alive.id);
    expect(alive.asked).to.equal(2);
    expect([alive.closed, silent.closed]).to.deep.equal([false, true]);
  });

  it("[D23] a beat while the roll is called renews nobody who is silent, nor while a second call goes on", async () => {
    const { air, at } = cluster(3, { perUser: 2 }, { answer: 200, look: 5, young: -1 });
    const silent = [await at(0).enter("anna"), await at(0).enter("anna")];
    for (const one of silent) one.alive = false;
    const first = at(1).knock("anna");
    await until("the first roll is called", () => air.said.length === 1);
    await pause(80);
    const second = at(2).knock("anna");
    await until("the second roll is called", () => air.said.length === 2);
    await pause(20);
    await at(0).slots.renewAll();
    expect(await first, "during the first").to.be.instanceOf(Client);
    await at(0).slots.renewAll();
    expect(await second, "during the second").to.be.instanceOf(Client);
    await until("both are closed", () => silent.every(({ closed }) => closed));
  });

  it("[D23] where everybody answers at once the refusal comes at once", async () => {
    const { at } = cluster(2, { perUser: 1 }, { answer: 5000, look: 5, young: -1 });
    await at(0).enter("anna");
    const began = performance.now();
    expect(await at(1).knock("anna")).to.equal("USER_CONNECTION_LIMIT");
    expect(performance.now() - began).to.be.below(2000);
  });

  it("[D23] whoever is young is there, without a question: it may still be on its way in", async () => {
    const { at } = cluster(2, { perUser: 2 }, { answer: 60, look: 5, young: 60_000 });
    const silent = await at(0).enter("anna");
    silent.alive = false;
    const onItsWay = await at(0).knock("anna");
    await pass(1);
    expect(await at(1).knock("anna")).to.equal("USER_CONNECTION_LIMIT");
    expect(silent.asked).to.equal(0);
    expect(await ofUser("anna")).to.have.members([silent.id, (onItsWay as Client).id]);
  });

  it("[D23] what left while it was asked is not renewed when its answer comes", async () => {
    const { at } = cluster(1, { perUser: 1 }, { answer: 100, look: 5, young: -1 });
    const left = await at(0).enter("anna");
    left.delay = 40;
    at(0).slots.notice({ call: "anna" });
    await until("it is asked", () => left.asked === 1);
    at(0).slots.release(left.id);
    await pause(80);
    expect(await ofUser("anna")).to.deep.equal([]);
  });

  it("[D23] many at one door share a call; one that comes later is called for again", async () => {
    const { air, at } = cluster(2, { perUser: 2 });
    const all = [await at(0).enter("anna"), await at(1).enter("anna")];
    const refused = await Promise.all(Array.from({ length: 10 }, () => at(1).knock("anna")));
    expect(new Set(refused)).to.deep.equal(new Set(["USER_CONNECTION_LIMIT"]));
    expect(air.said).to.deep.equal([{ call: "anna" }]);
    for (const one of all) expect(one.asked).to.equal(1);
    await pause(150);
    expect(await at(1).knock("anna")).to.equal("USER_CONNECTION_LIMIT");
    expect(air.said).to.have.length(2);
  });
});
