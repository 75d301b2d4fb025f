import { setTimeout as pause } from "node:timers/promises";
import { expect } from "chai";
import { Rights } from "../../server/src/node/rights.js";
import { onTeardown } from "../harness/teardown.js";
import { house } from "../harness/visits.js";
import { until } from "../harness/wait.js";

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
