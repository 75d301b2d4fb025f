import { expect } from "chai";
import fc from "fast-check";
import { SlidingLog, SlidingWindow, WINDOW_MS } from "../../server/src/gate/window.js";

/** Pauses between attempts (ms): mostly bursts, at times a whole window or more. */
const pauses = fc.array(
  fc.oneof(
    { weight: 6, arbitrary: fc.double({ min: 0, max: 3, noNaN: true }) },
    { weight: 2, arbitrary: fc.double({ min: 0, max: 400, noNaN: true }) },
    { weight: 1, arbitrary: fc.double({ min: 900, max: 1100, noNaN: true }) },
    { weight: 1, arbitrary: fc.double({ min: 0, max: 1e6, noNaN: true }) },
  ),
  { minLength: 1, maxLength: 400 },
);
const limit = fc.integer({ min: 1, max: 40 });

/** How many of the times lie in the second that ends at `end`. */
const within = (times: number[], end: number, ms = WINDOW_MS) => times.filter((t) => t > end - ms).length;

describe("sliding window", () => {
  const taken = (
    window: { take(now: number, limit: number): boolean },
    limit: number,
    now: number,
    tries: number,
  ) => Array.from({ length: tries }, () => window.take(now, limit)).filter(Boolean).length;

  it("[D20] lets the limit pass at once, and the next ones only when a whole second has gone by", () => {
    const window = new SlidingWindow();
    expect(taken(window, 5, 10.9, 8)).to.equal(5);
    expect(window.count(10.9)).to.equal(5);
    expect(taken(window, 5, 1010.8, 8)).to.equal(0);
    expect(taken(window, 5, 1010.95, 8), "the bucket's last instant is not a second old").to.equal(0);
    expect(taken(window, 5, 1011, 8)).to.equal(5);
  });

  it("[D20] has no edges at which twice the limit passes", () => {
    const window = new SlidingWindow();
    expect(taken(window, 5, 990, 5)).to.equal(5);
    expect(taken(window, 5, 1010, 5)).to.equal(0);
    expect(taken(window, 5, 1991, 5)).to.equal(5);
  });

  it("[D20] in no second more than the limit; and none is refused while fewer than it left within 1001 ms", () => {
    fc.assert(
      fc.property(pauses, limit, (steps, limit) => {
        const window = new SlidingWindow();
        const sent: number[] = [];
        let now = 0;
        for (const step of steps) {
          now += step;
          if (window.take(now, limit)) sent.push(now);
          else expect(within(sent, now, WINDOW_MS + 1)).to.be.at.least(limit);
          expect(within(sent, now)).to.be.at.most(limit);
          expect(window.count(now)).to.be.within(within(sent, now), within(sent, now, WINDOW_MS + 1));
        }
      }),
    );
  });

  it("[D20] knows when there is room again, for each limit, and not before", () => {
    fc.assert(
      fc.property(pauses, limit, fc.integer({ min: 1, max: 40 }), (steps, most, limit) => {
        const window = new SlidingWindow();
        let now = 0;
        for (const step of steps) {
          now += step;
          window.take(now, most);
        }
        const at = window.roomAt(now, limit);
        if (at > now) expect(window.count(at - 0.01)).to.be.at.least(limit);
        expect(window.count(at)).to.be.below(limit);
      }),
    );
  });

  it("[D20] a limit of 0 lets nothing pass, and never will", () => {
    const window = new SlidingWindow();
    expect(window.take(5, 0)).to.equal(false);
    expect(window.roomAt(5, 0)).to.equal(Number.POSITIVE_INFINITY);
  });

  it("[D20] a limit that shrank is met as the spent ones leave", () => {
    const window = new SlidingWindow();
    for (let now = 0; now < 10; now++) window.take(now, 10);
    expect(window.roomAt(10, 3)).to.equal(1008);
    expect(window.take(1007.9, 3)).to.equal(false);
    expect(window.take(1008, 3)).to.equal(true);
  });

  it("[D20] one that was not sent is given back, into its own millisecond", () => {
    const window = new SlidingWindow();
    window.take(1, 5);
    window.take(7, 5);
    window.giveBack(1);
    expect(window.count(7)).to.equal(1);
    expect(window.count(1007), "the other one is still there").to.equal(1);
    window.giveBack(1);
    expect(window.count(1007)).to.equal(1);
    expect(window.count(1008)).to.equal(0);
  });

  it("[D20] a time that lies back counts as the present", () => {
    const window = new SlidingWindow();
    window.take(100, 2);
    window.take(50, 2);
    expect(window.count(1100)).to.equal(2);
    expect(window.take(1099, 2)).to.equal(false);
    expect(window.count(1101)).to.equal(0);
  });

  it("[D20] counts right after a silence longer than its ring, and for days", () => {
    const window = new SlidingWindow();
    for (const now of [0, 1023, 5000, 2 ** 31 + 7, 2 ** 40]) {
      expect(taken(window, 3, now, 4), `at ${now}`).to.equal(3);
    }
  });
});

describe("sliding log", () => {
  const taken = (log: SlidingLog, now: number, tries: number) =>
    Array.from({ length: tries }, () => log.take(now)).filter(Boolean).length;

  it("[D20] lets N pass in any second, exactly to the instant", () => {
    const log = new SlidingLog(20);
    expect(taken(log, 0.5, 30)).to.equal(20);
    expect(log.nextAt(0.5)).to.equal(1000.5);
    expect(taken(log, 1000.4, 3)).to.equal(0);
    expect(taken(log, 1000.5, 30)).to.equal(20);
  });

  it("[D20] 0 is no limit", () => {
    const log = new SlidingLog(0);
    expect(taken(log, 0, 1000)).to.equal(1000);
    expect(log.nextAt(7)).to.equal(7);
  });

  it("[D20] takes one exactly when fewer than N went in the last second, and says when the next may go", () => {
    fc.assert(
      fc.property(pauses, limit, (steps, limit) => {
        const log = new SlidingLog(limit);
        const sent: number[] = [];
        let now = 0;
        for (const step of steps) {
          now += step;
          // As the log reckons: a second after its own oldest, in the same arithmetic.
          const oldest = sent.at(-limit);
          const free = oldest === undefined || oldest + WINDOW_MS <= now;
          expect(log.nextAt(now)).to.equal(free ? now : (oldest ?? 0) + WINDOW_MS);
          expect(log.take(now)).to.equal(free);
          if (free) sent.push(now);
        }
      }),
    );
  });
});
