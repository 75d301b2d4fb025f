import { setTimeout as pause } from "node:timers/promises";
import { expect } from "chai";
import fc from "fast-check";
import { Expiry } from "../../server/src/node/expiry.js";
import { Idle } from "../../server/src/node/idle.js";
import { onTeardown } from "../harness/teardown.js";
import { Heard, house } from "../harness/visits.js";
import { until } from "../harness/wait.js";

describe("a visit", () => {
  it("[D25] new rights: the namespaces have them before it is said what is lost; the same rights are no news", () => {
    const { visit, heard } = house().enter("anna", ["p1", "p2", "p3"]);
    const given = visit.projects;
    expect(visit.renewRights(new Set(["p3", "p2", "p1"]))).to.deep.equal([]);
    expect(visit.projects).to.equal(given);
    expect(heard.said).to.deep.equal([]);
    expect(visit.renewRights(new Set(["p2", "p4", "p5"]))).to.deep.equal(["p1", "p3"]);
    expect(heard.said).to.deep.equal([
      ["rights", ["p2", "p4", "p5"]],
      ["ACCESS_REVOKED", { project_ids: ["p1", "p3"] }],
    ]);
    expect(visit.renewRights(new Set(["p2", "p4", "p5", "p6"]))).to.deep.equal([]);
    expect(heard.events.slice(2)).to.deep.equal(["rights"]);
    expect([...visit.projects]).to.have.members(["p2", "p4", "p5", "p6"]);
  });

  it("[D25] whatever rights come and go: what is told as lost is what was there and is not", () => {
    const rights = fc.uniqueArray(fc.constantFrom("p1", "p2", "p3", "p4"));
    fc.assert(
      fc.property(rights, fc.array(rights, { maxLength: 8 }), (first, later) => {
        const { visit, heard } = house().enter("anna", first);
        let before = first;
        for (const projects of later) {
          const already = heard.said.length;
          const lost = visit.renewRights(new Set(projects));
          const gone = before.filter((id) => !projects.includes(id));
          const isNew = projects.some((id) => !before.includes(id));
          expect(lost).to.have.members(gone).and.have.length(gone.length);
          const expected = [
            ...(gone.length > 0 || isNew ? ["rights"] : []),
            ...(gone.length > 0 ? ["ACCESS_REVOKED"] : []),
          ];
          expect(heard.events.slice(already)).to.deep.equal(expected);
          before = projects;
        }
        expect([...visit.projects]).to.have.members(before);
      }),
    );
  });

  it("[D24] its last words leave before it closes; it ends once, for the first reason", async () => {
    const { visits, closed, enter } = house();
    const { visit, wire, heard } = enter();
    heard.holdsBack = true;
    visit.end("UNAUTHORIZED");
    visit.end("USER_CONNECTION_LIMIT");
    await pause(20);
    expect(wire.closes).to.deep.equal([]);
    heard.leave();
    await until("it closes", () => wire.closes.length > 0);
    expect(wire.closes).to.deep.equal([true]);
    expect(closed).to.deep.equal([[visit, "forced close"]]);
    expect(visit.endedBecause).to.equal("UNAUTHORIZED");
    expect([...visits]).to.deep.equal([]);
    expect(visits.withSession(wire.id)).to.equal(undefined);
    expect(visits.of(wire)).to.equal(visit);
  });

  it("[D24] one whose client takes nothing closes after a second; one that never joined at once", async () => {
    const { enter, open } = house();
    const { visit, wire, heard } = enter();
    const idle = open();
    heard.holdsBack = true;
    const began = performance.now();
    visit.end();
    idle.visit.end();
    await until("the idle one closes", () => idle.wire.closes.length > 0);
    expect(performance.now() - began).to.be.below(500);
    await until("the other closes", () => wire.closes.length > 0);
    expect(performance.now() - began).to.be.within(950, 2500);
  });
});

describe("expiry and idleness", () => {
  it("[D24] warned once, as soon as it has joined; ended after the end of its token, not before", async () => {
    const { visits, enter, open } = house();
    const expiry = new Expiry(visits, { warning: 400, sweep: 10 });
    expiry.start();
    onTeardown(() => expiry.stop());
    const expiresAt = Date.now() + 500;
    const { wire, heard } = enter("anna", ["p1"], expiresAt);
    const late = { ...open("anna", ["p1"], expiresAt), heard: new Heard() };
    const other = enter("ben", ["p1"], Date.now() + 60_000);
    await pause(30);
    expect(heard.said, "too early").to.deep.equal([]);
    await until("the warning", () => heard.said.length > 0);
    expect(expiresAt - Date.now()).to.be.within(300, 400);
    late.visit.namespaces.add(late.heard);
    await until("the end", () => wire.closes.length > 0 && late.wire.closes.length > 0);
    expect(Date.now()).to.be.within(expiresAt, expiresAt + 400);
    for (const one of [heard, late.heard]) {
      expect(one.events).to.deep.equal(["TOKEN_EXPIRING", "ERROR"]);
      const [warning, error] = one.said.map(([, payload]) => payload as Record<string, unknown>);
      expect(warning?.expires_in_ms).to.be.within(1, 400);
      expect(error).to.include({ code: "UNAUTHORIZED", retry: "new_token" });
    }
    expect(other.heard.said).to.deep.equal([]);
    expect(other.wire.closes).to.deep.equal([]);
  });

  it("[D12] whoever is in no namespace for a while is ended; whoever has joined, or comes back in time, is not", async () => {
    const { visits, enter, open } = house();
    const idle = new Idle(visits, { idle: 200, sweep: 10 });
    idle.start();
    onTeardown(() => idle.stop());
    const stays = enter();
    const never = open();
    const changes = enter();
    const began = performance.now();
    changes.visit.namespaces.clear();
    await pause(100);
    changes.visit.namespaces.add(changes.heard);
    await until("the one that never joined has ended", () => never.wire.closes.length > 0);
    expect(performance.now() - began).to.be.within(200, 600);
    changes.visit.namespaces.clear();
    await pause(100);
    expect(changes.wire.closes, "its time begins again").to.deep.equal([]);
    await until("now it has ended", () => changes.wire.closes.length > 0);
    expect(never.visit.endedBecause).to.equal(undefined);
    expect(stays.wire.closes).to.deep.equal([]);
  });
});
