import { expect } from "chai";
import { bytesFrame, controlFrame, logFrame, stateFrame } from "../harness/gate.js";
import { openDesk } from "../harness/outbox-rig.js";

const SECOND = 1000;

describe("outbox", () => {
  it("[D20] no more than the connection's limit in any second; CRITICAL and control come on top, at once", () => {
    const desk = openDesk({ perSecond: 2 });
    const takes = () => desk.line.ready();
    for (let n = 0; n < 3; n++) {
      desk.log();
      takes();
    }
    desk.send(controlFrame(), "free");
    takes();
    desk.log({ urgent: true });
    takes();
    expect(desk.sent).to.deep.equal(["e-1+", "e-2+", "c", "e-4"]);
    desk.clock.move(SECOND - 1);
    expect(desk.sent).to.have.length(4);
    desk.clock.move(1);
    expect(desk.sent.at(-1), "by itself").to.equal("e-3+");
  });

  it("[D20] the cluster's limit holds it until its turn, each turn one message", () => {
    const desk = openDesk();
    desk.share.room = 0;
    for (let n = 0; n < 3; n++) desk.log();
    desk.send(controlFrame(), "free");
    desk.line.ready();
    expect(desk.sent).to.deep.equal(["c"]);
    for (let n = 1; n <= 3; n++) {
      desk.share.grant(1);
      expect(desk.sent).to.have.length(n + 1);
      desk.line.ready();
    }
    expect(desk.sent).to.deep.equal(["c", "e-1+", "e-2+", "e-3+"]);
    expect({ spent: desk.share.spent, waiting: desk.share.waiting }).to.deep.equal({ spent: 3, waiting: 0 });
  });

  it("[D20] a turn that it cannot use costs nothing, and it waits again when it can", () => {
    const desk = openDesk();
    desk.share.room = 0;
    desk.log();
    desk.line.block();
    desk.share.grant(1);
    expect({ sent: desk.sent, spent: desk.share.spent }).to.deep.equal({ sent: [], spent: 0 });
    desk.line.ready();
    expect({ sent: desk.sent, spent: desk.share.spent }).to.deep.equal({ sent: ["e-1+"], spent: 1 });
  });

  it("[D20] it says what it did with its turn: sent one and wants more, sent the last, or nothing", () => {
    const desk = openDesk();
    desk.share.room = 0;
    for (let n = 0; n < 2; n++) desk.log();
    expect(desk.outbox.turn()).to.equal("again");
    expect(desk.outbox.turn(), "the first is on its way").to.equal("unused");
    desk.line.ready();
    expect(desk.outbox.turn()).to.equal("sent");
    desk.line.ready();
    expect(desk.outbox.turn()).to.equal("unused");
    expect(desk.sent).to.deep.equal(["e-1+", "e-2+"]);
  });

  it("[D20] a refill that keeps to the limits does; a free one does not", () => {
    const desk = openDesk({ perSecond: 1 });
    for (let n = 1; n <= 2; n++) {
      desk.send(logFrame(n), "limited");
      desk.line.ready();
    }
    expect(desk.sent).to.deep.equal(["e-1+"]);
    desk.clock.move(SECOND);
    desk.line.ready();
    for (let n = 3; n <= 5; n++) {
      desk.send(logFrame(n, { urgent: n === 4 }), "free");
      desk.line.ready();
    }
    expect(desk.sent).to.deep.equal(["e-1+", "e-2+", "e-3+", "e-4+", "e-5+"]);
  });

  for (const limit of ["own", "share"] as const) {
    it(`[D20][D21] what a limit (${limit}) holds back for longer than the time is dropped, and told at once`, () => {
      const desk = openDesk({ perSecond: limit === "own" ? 1 : 0, ttlMs: 500 });
      if (limit === "share") desk.share.room = 0;
      else {
        desk.send(stateFrame("t9", 1));
        desk.line.ready();
      }
      const before = desk.sent.length;
      desk.log();
      desk.clock.move(300);
      desk.log();
      desk.clock.move(200);
      expect(desk.behind, "not longer than the time").to.deep.equal([]);
      desk.clock.move(2);
      expect(desk.behind).to.deep.equal([
        ["0-0", "expired"],
        ["1-0", "expired"],
      ]);
      expect(desk.sent.slice(before)).to.deep.equal([]);
    });

    it(`[D29] bytes are not counted, and pass what a limit (${limit}) holds back, also where no more has room`, () => {
      const desk = openDesk({ perSecond: limit === "own" ? 1 : 0, depth: 3 });
      if (limit === "share") desk.share.room = 1;
      for (let n = 0; n < 3; n++) {
        desk.send(bytesFrame("t1", 10 * n, 10));
        desk.line.ready();
      }
      for (let n = 0; n < 4; n++) {
        desk.send(stateFrame(`t${n}`, 1));
        desk.line.ready();
      }
      desk.send(bytesFrame("t1", 30, 10));
      desk.line.ready();
      expect(desk.sent).to.deep.equal(["b-t1-0", "b-t1-10", "b-t1-20", "s-t0-1", "b-t1-30"]);
      desk.line.block();
      desk.send(bytesFrame("t2", 0, 10));
      expect(desk.sent).to.have.length(5);
      desk.line.ready();
      expect(desk.sent.slice(5)).to.deep.equal(["t2 0..10 rate_limit"]);
      expect(desk.share.spent).to.equal(1);
    });
  }

  it("[D20][D29] bytes that waited for the line leave with it, past what a limit holds back; in their order", () => {
    const desk = openDesk({ perSecond: 1 });
    desk.line.block();
    for (let n = 0; n < 3; n++) {
      desk.send(bytesFrame("t1", 10 * n, 10));
      desk.send(stateFrame(`t${n}`, 1));
    }
    desk.line.ready();
    expect(desk.sent).to.deep.equal(["s-t0-1", "b-t1-0", "b-t1-10", "b-t1-20"]);
  });
});
