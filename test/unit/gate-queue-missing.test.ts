import { expect } from "chai";
import { controlFrame, stateFrame } from "../harness/gate.js";
import { idsOf, names, openQueue } from "../harness/queue-rig.js";

describe("queue", () => {
  it("[D21] a newer state takes the place of the older one of its task, which is counted", () => {
    const { add, dropped, rest, queue } = openQueue();
    for (const [task, n] of [
      ["t1", 1],
      ["t2", 1],
      ["t1", 2],
      ["t3", 1],
      ["t1", 3],
    ] as const)
      expect(add(stateFrame(task, n)).kept).to.equal(true);
    expect(dropped.map(({ merged }) => merged)).to.deep.equal([true, true]);
    expect(idsOf(dropped)).to.deep.equal(["s-t1-1", "s-t1-2"]);
    expect(queue.depth).to.equal(3);
    expect(names(rest())).to.deep.equal([
      { of: "messages", event_type: "PROGRESS_UPDATE", count: 2, reason: "backpressure" },
      "s-t1-3",
      "s-t2-1",
      "s-t3-1",
    ]);
  });

  it("[D21] a newer state needs no room of its own; where it is larger, another one may have to go", () => {
    const { add, bytes, log, dropped, queue } = openQueue({ depth: 3, bytes: 300 });
    add(stateFrame("t1", 1, 100));
    add(bytes());
    add(log());
    add(stateFrame("t1", 2, 100));
    expect(idsOf(dropped)).to.deep.equal(["s-t1-1"]);
    add(stateFrame("t1", 3, 150));
    expect(idsOf(dropped)).to.deep.equal(["s-t1-1", "s-t1-2", "b-t1-0"]);
    expect({ depth: queue.depth, bytes: queue.bytes }).to.deep.equal({ depth: 2, bytes: 250 });
    add(stateFrame("t1", 4, 250));
    expect(idsOf(dropped).slice(3), "nor does it push out what is more important").to.deep.equal([
      "s-t1-3",
      "s-t1-4",
    ]);
  });

  it("[D21] what is missing of a terminal is told in its place, exactly", () => {
    const { add, bytes, rest } = openQueue({ depth: 3 });
    for (let n = 0; n < 5; n++) add(bytes("t1", 10));
    add(bytes("t2", 7));
    expect(names(rest())).to.deep.equal([
      { of: "bytes", task_id: "t1", from: 0, to: 30, reason: "backpressure" },
      "b-t1-30",
      "b-t1-40",
      "b-t2-0",
    ]);
  });

  it("[D21] what is missing for another reason is another notice", () => {
    const { add, bytes, rest } = openQueue({ depth: 1 });
    add(bytes("t1", 10));
    add(bytes("t1", 10), "live", "rate_limit");
    add(bytes("t1", 10), "live", "backpressure");
    add(bytes("t1", 10), "live", "backpressure");
    expect(names(rest())).to.deep.equal([
      { of: "bytes", task_id: "t1", from: 0, to: 10, reason: "rate_limit" },
      { of: "bytes", task_id: "t1", from: 10, to: 30, reason: "backpressure" },
      "b-t1-30",
    ]);
  });

  it("[D20][D21] a status change that waited too long takes all behind it along; replayed ones and CRITICAL stay", () => {
    const { add, log, clock, queue, dropped, rest } = openQueue();
    add(log(), "limited");
    add(log());
    add(log(100, true));
    clock.now = 50;
    add(log());
    add(log());
    expect(queue.expire(0), "not older than that").to.equal(false);
    expect(queue.expire(1)).to.equal(true);
    expect(queue.expire(1)).to.equal(false);
    expect(idsOf(dropped)).to.deep.equal(["e-2", "e-4", "e-5"]);
    expect(dropped.map(({ reason }) => reason)).to.deep.equal(["expired", "expired", "expired"]);
    expect(names(rest())).to.deep.equal(["e-3", "e-1"]);
  });

  it("[D20][D21] terminal output that waited too long goes, and only that; the newest state of a task stays", () => {
    const { add, bytes, clock, queue, rest } = openQueue();
    add(stateFrame("t1", 1));
    add(bytes("t1", 10));
    add(bytes("t1", 10));
    add(controlFrame(), "free");
    clock.now = 50;
    add(bytes("t1", 10));
    expect(queue.expire(50)).to.equal(true);
    expect(names(rest())).to.deep.equal([
      "c",
      "s-t1-1",
      { of: "bytes", task_id: "t1", from: 0, to: 20, reason: "expired" },
      "b-t1-20",
    ]);
  });
});
