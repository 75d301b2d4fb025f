import { expect } from "chai";
import { bytesFrame, controlFrame, stateFrame } from "../harness/gate.js";
import { openDesk } from "../harness/outbox-rig.js";

const SECOND = 1000;

describe("outbox", () => {
  it("[D5] what may leave leaves at once, a status change with its offset", () => {
    const desk = openDesk();
    expect(desk.log()).to.equal(true);
    desk.line.ready();
    desk.send(stateFrame("t1", 1));
    expect(desk.sent).to.deep.equal(["e-1+", "s-t1-1"]);
    expect(desk.counters).to.deep.include({ queued: 0, bytes: 200 });
  });

  it("[D5] while the client does not read everything waits; then it leaves by priority, in one write", () => {
    const desk = openDesk();
    desk.line.block();
    desk.send(bytesFrame("t1", 0, 10));
    desk.send(stateFrame("t1", 1));
    desk.send(controlFrame(), "free");
    expect(desk.log()).to.equal(true);
    expect(desk.sent).to.deep.equal([]);
    desk.line.ready();
    expect(desk.sent).to.deep.equal(["c", "e-1+", "s-t1-1", "b-t1-0"]);
    expect(desk.counters.queued).to.equal(4);
  });

  it("[D5] where no offsets are wanted there are none", () => {
    const desk = openDesk({}, false);
    desk.log();
    desk.log();
    desk.line.ready();
    expect(desk.sent).to.deep.equal(["e-1", "e-2"]);
  });

  it("[D5][D21] a CRITICAL event overtakes what the limit holds back, without its offset, and does not count", () => {
    const desk = openDesk({ perSecond: 1 });
    for (const urgent of [false, false, true, false]) {
      expect(desk.log({ urgent })).to.equal(!urgent);
      desk.line.ready();
    }
    expect(desk.sent).to.deep.equal(["e-1+", "e-3"]);
    desk.clock.move(SECOND);
    desk.line.ready();
    desk.clock.move(SECOND);
    expect(desk.sent).to.deep.equal(["e-1+", "e-3", "e-2+", "e-4+"]);
  });

  it("[D5] where all that waited leaves at once nobody overtakes: the order of the log, and its offsets", () => {
    const desk = openDesk();
    desk.line.block();
    desk.log();
    desk.log({ urgent: true });
    desk.send(stateFrame("t1", 1));
    desk.log();
    desk.line.ready();
    expect(desk.sent).to.deep.equal(["e-1+", "e-2+", "e-3+", "s-t1-1"]);
  });

  it("[D21] a CRITICAL event that pushes an older one out carries no offset, nor one between: that one was not sent", () => {
    const alone = openDesk({ bytes: 150 });
    alone.share.room = 0;
    alone.log();
    expect(alone.log({ urgent: true })).to.equal(false);
    expect(alone.behind).to.deep.equal([["0-0", "rate_limit"]]);
    expect(alone.sent).to.deep.equal(["e-2"]);

    const between = openDesk({ bytes: 250 });
    between.line.block();
    for (const urgent of [false, true, true]) between.log({ urgent });
    expect(between.behind).to.deep.equal([["0-0", "backpressure"]]);
    between.line.ready();
    expect(between.sent).to.deep.equal(["e-2", "e-3"]);
  });

  it("[D21] what is older than a dropped one keeps its offset", () => {
    const desk = openDesk({ bytes: 250 });
    desk.line.block();
    for (const urgent of [true, false, false, true]) desk.log({ urgent });
    expect(desk.behind, "both 2 and 3 had to go").to.deep.equal([
      ["2-0", "backpressure"],
      ["1-0", "backpressure"],
    ]);
    desk.line.ready();
    expect(desk.sent).to.deep.equal(["e-1+", "e-4"]);
  });

  it("[D21] it says no to an event that it drops while it takes it in, because others waited too long", () => {
    const desk = openDesk({ ttlMs: 1000 });
    desk.share.room = 0;
    expect(desk.log()).to.equal(true);
    // The node stood still: no timer ran.
    desk.clock.now += 3000;
    expect(desk.log()).to.equal(false);
    expect(desk.behind).to.deep.equal([
      ["0-0", "expired"],
      ["1-0", "expired"],
    ]);
  });
});
