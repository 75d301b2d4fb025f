import { expect } from "chai";
import { controlFrame, logFrame } from "../harness/gate.js";
import { openDesk } from "../harness/outbox-rig.js";

const SECOND = 1000;

describe("outbox", () => {
  it("[D21] a dropped status change is announced when asked for, by reason, with its range; each once", () => {
    const desk = openDesk({ depth: 2 });
    desk.line.block();
    for (let n = 0; n < 5; n++) desk.log();
    expect(desk.behind).to.deep.equal([
      ["2-0", "backpressure"],
      ["3-0", "backpressure"],
      ["4-0", "backpressure"],
    ]);
    desk.outbox.miss(logFrame(6));
    desk.outbox.announceMissed();
    desk.outbox.announceMissed();
    desk.line.ready();
    expect(desk.sent).to.deep.equal(["AGENT_STATUS_CHANGED 4 3-0..6-0 backpressure", "e-1+", "e-2+"]);
    expect(desk.counters.dropped.backpressure.log).to.equal(4);
  });

  it("[D21] what is over the limit and finds the queue full is dropped for the limit, not for the client", () => {
    const desk = openDesk({ depth: 1, perSecond: 1 });
    for (let n = 0; n < 3; n++) {
      desk.log();
      desk.line.ready();
    }
    expect(desk.behind).to.deep.equal([["2-0", "rate_limit"]]);
  });

  it("[D21] who is over a limit is so also while the line is busy for a moment", () => {
    const own = openDesk({ depth: 1, perSecond: 1 });
    for (let n = 0; n < 3; n++) own.log();
    expect(own.behind).to.deep.equal([["2-0", "rate_limit"]]);
    const cluster = openDesk({ depth: 1 });
    cluster.share.room = 0;
    cluster.log();
    cluster.send(controlFrame(), "free");
    expect(cluster.line.writable).to.equal(false);
    cluster.log();
    expect(cluster.behind).to.deep.equal([["1-0", "rate_limit"]]);
  });

  it("[D21] what finds the queue full because the client does not read is dropped for that, also after a limit", () => {
    const desk = openDesk({ depth: 2, perSecond: 1 });
    desk.log();
    desk.line.ready();
    desk.log();
    desk.line.block();
    desk.clock.move(10 * SECOND);
    for (let n = 0; n < 2; n++) desk.log();
    expect(desk.behind).to.deep.equal([["3-0", "backpressure"]]);
  });

  it("[D21] not more than 64 KB are handed to the network at once, and a message that is larger than that", () => {
    const desk = openDesk();
    desk.line.block();
    for (let n = 0; n < 10; n++) desk.log({ size: 20_000 });
    const counts: number[] = [];
    for (let before = -1; desk.sent.length > before; counts.push(desk.sent.length - before)) {
      before = desk.sent.length;
      desk.line.ready();
    }
    expect(counts).to.deep.equal([4, 4, 2, 0]);
    desk.log({ size: 500_000 });
    expect(desk.sent).to.have.length(11);
  });

  it("[D21] who has 1,000 answers waiting and does not read them is closed, once", () => {
    const desk = openDesk();
    desk.line.block();
    for (let n = 0; n < 1000; n++) desk.send(controlFrame(1), "free");
    expect(desk.line.closed).to.equal(0);
    desk.send(controlFrame(1), "free");
    expect({ closed: desk.line.closed, counted: desk.counters.closedUnread }).to.deep.equal({
      closed: 1,
      counted: 1,
    });
    desk.outbox.close();
    desk.outbox.miss(logFrame(1));
    desk.outbox.announceMissed();
    expect(desk.counters.closedUnread, "what is gone is not closed again").to.equal(1);
  });

  it("[D21] other things that wait close nobody", () => {
    const desk = openDesk({ depth: 10 });
    desk.line.block();
    for (let n = 0; n < 1100; n++) desk.log({ urgent: true, size: 1 });
    for (let n = 1; n <= 1100; n++) desk.send(logFrame(n), "free");
    expect(desk.line.closed).to.equal(0);
  });
});
