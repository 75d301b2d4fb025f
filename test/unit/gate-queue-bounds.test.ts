import { expect } from "chai";
import { controlFrame, stateFrame } from "../harness/gate.js";
import { idsOf, names, openQueue } from "../harness/queue-rig.js";

describe("queue", () => {
  it("[D21] above the depth LOW goes first, the oldest first, then NORMAL", () => {
    const { add, log, bytes, dropped } = openQueue({ depth: 4 });
    add(bytes());
    add(stateFrame("t1", 1));
    add(stateFrame("t2", 1));
    add(bytes());
    for (let n = 0; n < 4; n++) expect(add(log()).kept).to.equal(true);
    expect(idsOf(dropped)).to.deep.equal(["b-t1-0", "b-t1-100", "s-t1-1", "s-t2-1"]);
    expect(dropped.every(({ merged }) => !merged)).to.equal(true);
  });

  it("[D21] above the depth a NORMAL one drops LOW, then the oldest NORMAL; a LOW one the oldest LOW, or itself", () => {
    const { add, bytes, dropped } = openQueue({ depth: 2 });
    add(bytes());
    add(bytes());
    expect(add(bytes()).kept).to.equal(true);
    for (const task of ["t1", "t2", "t3"]) expect(add(stateFrame(task, 1)).kept).to.equal(true);
    expect(idsOf(dropped)).to.deep.equal(["b-t1-0", "b-t1-100", "b-t1-200", "s-t1-1"]);
    expect(add(bytes()).kept).to.equal(false);
    expect(idsOf(dropped)).to.have.length(5).and.include("b-t1-300");
  });

  it("[D21] where only HIGH and CRITICAL wait a HIGH one goes itself: it is told, and leaves no notice here", () => {
    const { add, log, dropped, rest, queue } = openQueue({ depth: 2 });
    add(log(100, true));
    add(log());
    const { kept, message } = add(log(), "live", "rate_limit");
    expect(kept).to.equal(false);
    expect(dropped).to.deep.equal([{ message, reason: "rate_limit", merged: false }]);
    expect(queue.depth).to.equal(2);
    expect(names(rest())).to.deep.equal(["e-1", "e-2"]);
  });

  it("[D21] CRITICAL ones wait however many they are, and drop nothing for that", () => {
    const { add, log, bytes, dropped, queue } = openQueue({ depth: 2 });
    add(bytes());
    add(log());
    for (let n = 0; n < 20; n++) expect(add(log(1, true)).kept).to.equal(true);
    expect({ dropped, depth: queue.depth }).to.deep.equal({ dropped: [], depth: 22 });
  });

  it("[D21] above the bytes a CRITICAL one drops LOW, NORMAL, and the newest HIGH; then it goes itself", () => {
    const { add, log, bytes, dropped } = openQueue({ bytes: 500 });
    for (const frame of [log(), log(), stateFrame("t1", 1), bytes()]) add(frame);
    for (let n = 0; n < 5; n++) expect(add(log(100, true)).kept).to.equal(true);
    expect(idsOf(dropped)).to.deep.equal(["b-t1-0", "s-t1-1", "e-2", "e-1"]);
    expect(add(log(100, true)).kept).to.equal(false);
    expect(idsOf(dropped).at(-1)).to.equal("e-8");
  });

  it("[D21] no priority but CRITICAL drops a HIGH one", () => {
    const { add, log, bytes, dropped } = openQueue({ bytes: 300 });
    for (let n = 0; n < 3; n++) add(log());
    for (const frame of [log(), stateFrame("t1", 1), bytes()]) expect(add(frame).kept).to.equal(false);
    expect(idsOf(dropped)).to.deep.equal(["e-4", "s-t1-1", "b-t1-0"]);
  });

  it("[D21] exactly as many messages and bytes as are allowed wait, and not one more", () => {
    const full = openQueue({ depth: 3, bytes: 300 });
    for (let n = 0; n < 3; n++) expect(full.add(full.log(100)).kept).to.equal(true);
    expect(full.dropped).to.deep.equal([]);
    expect(full.add(full.log(1)).kept).to.equal(false);
    const heavy = openQueue({ depth: 9, bytes: 300 });
    for (let n = 0; n < 2; n++) heavy.add(heavy.log(100));
    expect(heavy.add(heavy.log(101)).kept).to.equal(false);
    expect(heavy.add(heavy.log(100)).kept).to.equal(true);
    expect(heavy.queue.bytes).to.equal(300);
  });

  it("[D21] where nothing waits, or only what is not dropped, a message of any size fits; a second one does not", () => {
    const { add, log, bytes, dropped, queue } = openQueue({ bytes: 100 });
    add(controlFrame(90), "free");
    add(log(90), "limited");
    expect(add(log(1000)).kept).to.equal(true);
    expect(add(log(1)).kept).to.equal(false);
    expect(add(bytes("t1", 1)).kept).to.equal(false);
    expect(dropped).to.have.length(2);
    expect(queue.bytes).to.equal(1180);
  });

  it("[D21] what the server says and what is replayed is never dropped, drops nothing, and counts as bytes only", () => {
    const { add, log, dropped, queue } = openQueue({ depth: 2, bytes: 1000 });
    add(log());
    add(log());
    for (let n = 0; n < 20; n++) {
      expect(add(controlFrame(), "free").kept).to.equal(true);
      expect(add(log(), n % 2 ? "free" : "limited").kept).to.equal(true);
    }
    expect(dropped).to.deep.equal([]);
    expect({ depth: queue.depth, bytes: queue.bytes, said: queue.said }).to.deep.equal({
      depth: 2,
      bytes: 4200,
      said: 20,
    });
    add(log(1, true));
    expect(idsOf(dropped), "they are in nobody's way to be dropped for").to.deep.equal(["e-23"]);
  });
});
