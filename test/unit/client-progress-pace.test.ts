import { expect } from "chai";
import { MINUTE, stores, update } from "../harness/client-progress.js";

describe("client progress", () => {
  it("[D28] the usual gap follows the gaps, also when they change", () => {
    const store = stores();
    let now = 0;
    let percent = 0;
    const come = (times: number, gap: number) => {
      for (let n = 0; n < times; n++) {
        now += gap;
        percent += 1;
        store.apply(update(percent), now);
      }
    };
    const easeMs = () => {
      let ms = 0;
      while (store.percent(now + ms) !== percent) ms += 10;
      return ms;
    };
    come(10, 200);
    expect(easeMs()).to.be.within(150, 200);
    come(1, 2000);
    expect(easeMs(), "one late update says little").to.be.below(1000);
    come(12, 2000);
    expect(easeMs()).to.be.within(1600, 2000);
    come(5, 30_000);
    expect(easeMs(), "what is shown is never older than 5 s").to.equal(5000);
    now += 20_000; // What was held up on the way comes all at once.
    come(20, 0);
    expect(easeMs()).to.be.within(80, 200);
  });

  it("[D28] a lower value is a new attempt: it stands there at once, and learns its gap anew", () => {
    const store = stores();
    for (let n = 0; n <= 10; n++) store.apply(update(n * 8), n * 1000);
    store.apply(update(5), 10_100);
    expect(store.at("t", 10_100)).to.deep.include({ percent: 5, still: true });
    store.apply(update(15), 10_300);
    expect(store.percent(10_300)).to.equal(5);
    expect(store.percent(10_500)).to.equal(15);
  });

  it("[D28] a page that opens in the middle shows what was reported from its first frame on", () => {
    const store = stores();
    store.apply(update(47.5), 1000);
    // A frame's time may lie before the update that came while it was prepared.
    expect(store.percent(995)).to.equal(47.5);
    expect(store.percent(1000)).to.equal(47.5);
  });

  it("[D28] an update before its time goes on from what is shown", () => {
    const store = stores();
    store.apply(update(0), 0);
    store.apply(update(40), 1000);
    const shown = store.percent(1300);
    expect(shown).to.be.within(10, 20);
    store.apply(update(50), 1300);
    expect(store.percent(1300)).to.equal(shown);
    expect(store.percent(1301)).to.be.within(shown as number, 20);
  });

  it("[D28] other words for the same percentage do not delay it", () => {
    const store = stores();
    store.apply(update(0), 0);
    store.apply(update(50), 1000);
    for (let now = 1100; now < 1900; now += 100) {
      store.apply(update(50), now);
      expect(store.percent(now)).to.be.at.least((50 * (now - 1000)) / 900 - 1e-9);
    }
    expect(store.percent(1900)).to.equal(50);
  });

  it("[D28] the remaining time counts down, stands still when updates stay away, and is never below 0", () => {
    const store = stores();
    store.apply(update(10, { estimated_seconds_remaining: 90 }), 0);
    expect(store.seconds(1500)).to.equal(88.5);
    store.apply(update(20, { estimated_seconds_remaining: 80 }), 2000);
    expect(store.seconds(2000)).to.equal(80);
    expect(store.seconds(4000)).to.equal(78);
    const stood = store.seconds(7000) as number;
    expect(stood).to.be.within(75, 78);
    expect(store.seconds(50 * MINUTE)).to.equal(stood);
    store.apply(update(99, { estimated_seconds_remaining: 0.5 }), 50 * MINUTE);
    expect(store.seconds(51 * MINUTE)).to.equal(0);
    store.apply(update(99.5), 51 * MINUTE);
    expect(store.seconds(51 * MINUTE)).to.equal(null);
  });
});
