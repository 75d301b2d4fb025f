import { expect } from "chai";
import { openDesk } from "../harness/outbox-rig.js";

/** Whether it has resolved by now. */
async function resolved(promise: Promise<void>): Promise<boolean> {
  let done = false;
  void promise.then(() => {
    done = true;
  });
  for (let n = 0; n < 5; n++) await null;
  return done;
}

describe("outbox", () => {
  it("[D21] drained: when all that waited has left for the network, not before; and when the connection is gone", async () => {
    const desk = openDesk();
    expect(await resolved(desk.outbox.drained()), "nothing waits").to.equal(true);
    desk.log();
    const first = desk.outbox.drained();
    expect(await resolved(first), "written, but not taken").to.equal(false);
    desk.log();
    const second = desk.outbox.drained();
    desk.line.ready();
    expect(await resolved(second), "written, but not taken").to.equal(false);
    desk.line.ready();
    expect(await resolved(first)).to.equal(true);
    expect(await resolved(second)).to.equal(true);
    desk.line.block();
    desk.log();
    const third = desk.outbox.drained();
    desk.outbox.close();
    expect(await resolved(third)).to.equal(true);
    desk.line.open = false;
    expect(await resolved(desk.outbox.drained())).to.equal(true);
  });

  it("[D21] drained: also when the last that waited are dropped while another one is written", async () => {
    const desk = openDesk({ ttlMs: 1000 });
    desk.share.room = 0;
    desk.log();
    const drained = desk.outbox.drained();
    // The node stood still: no timer ran.
    desk.clock.now += 3000;
    desk.log({ urgent: true });
    expect(desk.behind).to.deep.equal([["0-0", "expired"]]);
    desk.line.ready();
    expect(await resolved(drained)).to.equal(true);
  });

  it("[D21] a connection that is gone waits for no turn, and no timer is left", () => {
    const desk = openDesk();
    desk.share.room = 0;
    desk.log();
    desk.outbox.close();
    desk.line.open = false;
    expect(desk.share.waiting).to.equal(0);
    desk.clock.move(60_000);
    expect({ sent: desk.sent, behind: desk.behind }).to.deep.equal({ sent: [], behind: [] });
  });
});
