import { expect } from "chai";
import { controlFrame, stateFrame } from "../harness/gate.js";
import { names, openQueue } from "../harness/queue-rig.js";

describe("queue", () => {
  it("[D20] what the server says leaves first, then the priorities; within one what came first", () => {
    const { add, log, bytes, rest } = openQueue();
    add(bytes());
    add(stateFrame("t1", 1));
    add(log());
    add(log(100, true));
    add(controlFrame(), "free");
    add(bytes());
    add(stateFrame("t2", 1));
    add(log());
    add(log(100, true));
    expect(names(rest())).to.deep.equal([
      "c",
      "e-2",
      "e-4",
      "e-1",
      "e-3",
      "s-t1-1",
      "s-t2-1",
      "b-t1-0",
      "b-t1-100",
    ]);
  });

  it("[D5] what is replayed keeps the order of the log, also where it is CRITICAL", () => {
    const { add, log, rest } = openQueue();
    add(log(), "free");
    add(log(100, true), "limited");
    add(log(100, true), "free");
    add(log(), "limited");
    add(log(100, true));
    expect(names(rest())).to.deep.equal(["e-5", "e-1", "e-2", "e-3", "e-4"]);
  });

  it("[D5] knows whether an older status change waits, that who overtakes it must not forget", () => {
    const { add, log, queue, bytes } = openQueue();
    add(bytes());
    add(log(100, true));
    expect(queue.holdsLogBefore(99)).to.equal(false);
    const { message } = add(log());
    expect(queue.holdsLogBefore(message.arrival)).to.equal(false);
    expect(queue.holdsLogBefore(message.arrival + 1)).to.equal(true);
    const replay = openQueue();
    replay.add(replay.log(), "free");
    expect(replay.queue.holdsLogBefore(1)).to.equal(true);
  });
});
