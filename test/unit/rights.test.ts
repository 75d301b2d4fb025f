// Long: a visit, its rights, its end by time: the same visitors for all.
import { EventEmitter } from "node:events";
import { setTimeout as pause } from "node:timers/promises";
import type { EventType } from "@agentwire/shared";
import { expect } from "chai";
import fc from "fast-check";
import { Expiry } from "../../server/src/node/expiry.js";
import { Idle } from "../../server/src/node/idle.js";
import { Rights } from "../../server/src/node/rights.js";
import type { Joined, Visit, Visitor } from "../../server/src/node/visit.js";
import { Visits } from "../../server/src/node/visits.js";
import { onTeardown } from "../harness/teardown.js";
import { until } from "../harness/wait.js";

/** Engine.IO's connection, as far as a visit needs it. */
class Wire extends EventEmitter {
  readonly transport = { name: "websocket" };
  readonly id = Math.random().toString(36);
  closes: unknown[] = [];

  close(discard?: boolean): void {
    this.closes.push(discard);
    if (this.closes.length === 1) this.emit("close", "forced close");
  }
}

/** A namespace that was joined. */
class Heard implements Joined {
  readonly said: [EventType | "rights", unknown][] = [];
  /** Called when what was said has left. */
  leave: () => void = () => {};
  holdsBack = false;

  say(event_type: EventType, payload: unknown): void {
    this.said.push([event_type, payload]);
  }
  drained(): Promise<void> {
    return this.holdsBack ? new Promise((resolve) => (this.leave = resolve)) : Promise.resolve();
  }
  onRights(projects: ReadonlySet<string>): void {
    this.said.push(["rights", [...projects].sort()]);
  }
  get events(): string[] {
    return this.said.map(([name]) => name);
  }
}

/** Rights do not ask whether anybody is there. */
const PULSE = { answeredAt: new Date(), answers: async () => true };
let made = 0;

function house() {
  const visits = new Visits();
  const closed: [Visit, string][] = [];
  const open = (user = "anna", projects = ["p1"], expiresAt = Date.now() + 3_600_000) => {
    const wire = new Wire();
    const visitor: Visitor = {
      connectionId: `c${++made}`,
      user: { id: user, claims: {}, expiresAt },
      tokenDigest: "",
      projects: new Set(projects),
      filters: { agent_ids: [], project_ids: [], event_types: [] },
      encoding: "json",
      resumes: true,
      ip: "192.0.2.1",
    };
    const visit = visits.open(wire, visitor, PULSE, (...one) => closed.push(one));
    return { visit, wire };
  };
  /** One that has joined. */
  const enter = (...about: Parameters<typeof open>) => {
    const one = { ...open(...about), heard: new Heard() };
    one.visit.namespaces.add(one.heard);
    return one;
  };
  return { visits, closed, open, enter };
}

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

describe("rights", () => {
  interface Changed {
    id: string;
    lost: string[];
  }
  const begin = (times = { age: 60_000, tick: 10, entry: 10_000 }) => {
    const { visits, enter, open } = house();
    /** By user. */
    const today = new Map<string, string[]>();
    const reads: string[] = [];
    const changed: Changed[] = [];
    const errors: unknown[] = [];
    let read = async (user: string): Promise<ReadonlySet<string>> => new Set(today.get(user) ?? []);
    let reading = 0;
    const most = { atOnce: 0 };
    const rights = new Rights({
      visits,
      async projectsOf({ id }) {
        reads.push(id);
        most.atOnce = Math.max(most.atOnce, ++reading);
        try {
          return await read(id);
        } finally {
          reading--;
        }
      },
      onChanged: ({ id }, lost) => changed.push({ id, lost }),
      onError: (error) => errors.push(error),
      times,
    });
    rights.start();
    onTeardown(() => rights.stop());
    const readBy = (by: typeof read) => {
      read = by;
    };
    return { rights, enter, open, today, reads, changed, errors, most, readBy, usual: read };
  };

  it("[D25] read again when they are old, and not before; a notice about one user reads that user's", async () => {
    const { rights, enter, today, reads, changed } = begin({ age: 120, tick: 10, entry: 0 });
    today.set("anna", ["p1"]).set("ben", ["p1"]);
    const anna = enter("anna");
    enter("ben");
    await pause(60);
    expect(reads).to.deep.equal([]);
    today.set("anna", []);
    rights.changed("anna");
    await until("she is told", () => anna.heard.events.includes("ACCESS_REVOKED"));
    expect(reads).to.deep.equal(["anna"]);
    expect(changed).to.deep.equal([{ id: anna.visit.id, lost: ["p1"] }]);
    await until("his are old", () => reads.includes("ben"));
    expect(changed).to.have.length(1);
  });

  it("[D25] a notice does not wait for the next round", async () => {
    const { rights, enter, reads } = begin({ age: 60_000, tick: 60_000, entry: 10_000 });
    enter("anna");
    rights.changed("anna");
    await until("they are read", () => reads.length === 1, 2000);
  });

  it("[D25] a notice about nobody reads everybody's, a few at a time", async () => {
    const { rights, enter, reads, most, readBy, usual, today } = begin();
    const users = Array.from({ length: 20 }, (_, n) => `user-${n}`);
    for (const user of users) {
      today.set(user, ["p1"]);
      enter(user);
    }
    readBy(async (user) => {
      await pause(5);
      return usual(user);
    });
    rights.changed();
    await until("all are read", () => reads.length === 20);
    expect(new Set(reads).size).to.equal(20);
    expect(most.atOnce).to.be.within(2, 5);
    await pause(60);
    expect(reads).to.have.length(20);
  });

  it("[D25] what changes while it is read is read again: the older answer does not stay", async () => {
    const { rights, enter, reads, readBy, usual, today } = begin();
    today.set("anna", ["p1", "p2"]);
    const { visit, heard } = enter("anna", ["p1", "p2"]);
    let answer = () => {};
    readBy(async (user) => {
      const read = await usual(user);
      await new Promise<void>((resolve) => (answer = resolve));
      return read;
    });
    rights.changed("anna");
    await until("it is read", () => reads.length === 1);
    await pause(5);
    today.set("anna", ["p1"]);
    rights.changed("anna");
    await pause(30);
    expect(reads, "one at a time for a connection").to.have.length(1);
    readBy(usual);
    answer();
    await until("it is told", () => heard.events.includes("ACCESS_REVOKED"));
    expect([...visit.projects]).to.deep.equal(["p1"]);
    expect(reads).to.have.length(2);
  });

  it("[D25] a change between the door's look and the opened connection is not missed", async () => {
    const { rights, enter, reads, today } = begin();
    today.set("anna", ["p1"]).set("ben", ["p1"]);
    rights.changed("anna");
    await pause(30);
    const { heard } = enter("anna", ["p1", "p2"]);
    enter("ben");
    await until("it is told", () => heard.events.includes("ACCESS_REVOKED"));
    await pause(50);
    expect(reads).to.deep.equal(["anna"]);
    rights.changed();
    await until("both are read", () => reads.length === 3);
    const late = enter("carl", ["p1"]);
    await until("it is told as well", () => late.heard.events.includes("ACCESS_REVOKED"));
  });

  it("[D25] a change is not remembered for ever", async () => {
    const { rights, enter, reads, today } = begin({ age: 60_000, tick: 10, entry: 30 });
    today.set("anna", ["p1"]);
    rights.changed("anna");
    await pause(80);
    enter("anna");
    await pause(60);
    expect(reads).to.deep.equal([]);
  });

  it("[D25] while they cannot be read the last answer counts, one error says so, and it is asked again", async () => {
    const { rights, enter, reads, errors, readBy, usual, today } = begin();
    const all = [enter("anna", ["p1", "p2"]), enter("anna", ["p1", "p2"]), enter("ben", ["p1", "p2"])];
    today.set("anna", ["p1"]).set("ben", ["p1"]);
    readBy(async () => {
      throw new Error("the database is away");
    });
    rights.changed();
    await until("it has tried often", () => reads.length > 20);
    for (const { visit, heard } of all) {
      expect(visit.projects.size).to.equal(2);
      expect(heard.said).to.deep.equal([]);
    }
    expect(errors).to.have.length(1);
    readBy(usual);
    await until("all are told", () => all.every(({ heard }) => heard.events.includes("ACCESS_REVOKED")));
    expect(errors).to.have.length(1);
    const before = reads.length;
    await pause(50);
    expect(reads).to.have.length(before);
    readBy(async () => {
      throw new Error("away again");
    });
    rights.changed();
    await until("the next outage is told", () => errors.length === 2);
  });

  it("[D25] after it was stopped nothing is read", async () => {
    const { rights, enter, reads } = begin({ age: 20, tick: 5, entry: 0 });
    enter("anna");
    rights.stop();
    await pause(60);
    expect(reads).to.deep.equal([]);
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
