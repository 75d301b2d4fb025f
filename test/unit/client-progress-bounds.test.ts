import { expect } from "chai";
import fc from "fast-check";
import { percentAt } from "../../client/src/smooth.js";
import { HOUR, MINUTE, stores, update } from "../harness/client-progress.js";

/** Time from an update to the next (ms): as updates come, in bursts, at the same instant, rarely. */
const pause = fc.oneof(
  { weight: 4, arbitrary: fc.double({ min: 80, max: 3000, noNaN: true }) },
  { weight: 1, arbitrary: fc.constant(0) },
  { weight: 2, arbitrary: fc.double({ min: 0, max: 50, noNaN: true }) },
  { weight: 1, arbitrary: fc.double({ min: 0, max: HOUR - 1, noNaN: true }) },
);
const percent = fc.oneof(
  { weight: 4, arbitrary: fc.double({ min: 0, max: 100, noNaN: true }) },
  { weight: 2, arbitrary: fc.integer({ min: 0, max: 100 }) },
);
const seconds = fc.option(fc.double({ min: 0, max: 1e9, noNaN: true }));
/** When a page asks, as parts of the pause. */
const questions = fc.array(fc.double({ min: 0, max: 1, noNaN: true }), { maxLength: 12 });
const steps = fc.array(fc.record({ pause, percent, seconds, questions }), { minLength: 1, maxLength: 40 });

/** The times at which the steps' updates come, each with the sorted times of the questions after it. */
function schedule<S extends { pause: number; questions: number[] }>(given: S[]) {
  let now = 0;
  return given.map((step) => {
    const at = now;
    now += step.pause;
    return {
      ...step,
      at,
      next: now,
      asked: step.questions.map((part) => at + part * step.pause).sort((a, b) => a - b),
    };
  });
}

describe("client progress", () => {
  it("[D28] is finite, never falls within an attempt, and never exceeds what was reported", () => {
    fc.assert(
      fc.property(steps, (given) => {
        const store = stores();
        let last = { reported: -1, shown: 0 };
        for (const { percent, seconds, at, asked, next } of schedule(given)) {
          store.apply(update(percent, { estimated_seconds_remaining: seconds }), at);
          const isNewAttempt = percent < last.reported;
          if (isNewAttempt) expect(store.percent(at)).to.equal(percent);
          let floor = isNewAttempt ? 0 : last.shown;
          for (const now of [at, ...asked, next]) {
            const answer = store.at("t", now);
            if (percent === 100 && !answer) continue;
            const shown = answer?.percent ?? Number.NaN;
            expect(shown).to.be.within(floor, percent);
            floor = shown;
            const left = answer?.estimated_seconds_remaining ?? 0;
            expect(left).to.be.within(0, seconds ?? 0);
          }
          last = { reported: percent, shown: floor };
        }
      }),
      { numRuns: 500 },
    );
  });

  it("[D28] stands at what was reported before the next update is due, and moves evenly until shortly before", () => {
    // One at 100 is not due again.
    const risen = fc
      .array(percent, { minLength: 3, maxLength: 20 })
      .map((all) => all.filter((percent) => percent < 100).sort((a, b) => a - b))
      .filter(({ length }) => length > 0);
    fc.assert(
      fc.property(risen, fc.double({ min: 100, max: 5500, noNaN: true }), (percents, gap) => {
        const store = stores();
        let before = percents[0] as number;
        percents.forEach((percent, n) => {
          store.apply(update(percent), n * gap);
          expect(store.percent((n + 0.45) * gap)).to.be.closeTo((before + percent) / 2, 1e-6);
          expect(store.percent((n + 0.999) * gap)).to.equal(percent);
          before = percent;
        });
      }),
      { numRuns: 200 },
    );
  });

  it("[D28] stops when updates stop, and says so: what is still stays as it is", () => {
    fc.assert(
      fc.property(steps, fc.double({ min: 0, max: HOUR - 1, noNaN: true }), (given, wait) => {
        const store = stores();
        let end = 0;
        // With updates every half an hour an hour is not long.
        const often = given.map((step) => ({ ...step, pause: step.pause % (10 * MINUTE) }));
        for (const { percent, seconds, at } of schedule(often)) {
          store.apply(update(percent, { estimated_seconds_remaining: seconds }), at);
          end = at;
        }
        const reported = store.get("t")?.progress_percent;
        const then = store.at("t", end + wait);
        const later = store.at("t", end + HOUR - 1);
        if (reported === 100 && (!then || !later)) return;
        expect(later).to.include({ percent: reported, still: true });
        if (then?.still) expect(then).to.deep.equal(later);
        else expect(store.at("t", end + HOUR - 1)).to.not.deep.equal(then);
      }),
      { numRuns: 300 },
    );
  });

  it("[D28] reaches 100 exactly, within 300 ms, whatever the gap", () => {
    fc.assert(
      fc.property(percent, fc.double({ min: 0, max: HOUR - 1, noNaN: true }), (first, gap) => {
        fc.pre(first < 100);
        const store = stores();
        store.apply(update(first), 0);
        store.apply(update(100, { estimated_seconds_remaining: 3 }), gap);
        expect(store.at("t", gap + 300)).to.deep.equal({
          percent: 100,
          estimated_seconds_remaining: 0,
          still: true,
        });
      }),
    );
  });

  it("[D28] the same update said again moves nothing, at whatever time and under whatever id", () => {
    const again = fc.record({ part: fc.double({ min: 0, max: 1, noNaN: true }), newId: fc.boolean() });
    const some = fc.array(fc.record({ pause, percent, seconds, questions, again: fc.option(again) }), {
      minLength: 1,
    });
    fc.assert(
      fc.property(some, (given) => {
        const [once, twice] = [stores(), stores()];
        // A repeat counts as a sign of life: it may not be what keeps the one and not the other.
        const short = given.map((step) => ({ ...step, pause: step.pause % MINUTE }));
        for (const { percent, seconds, at, next, asked, again } of schedule(short)) {
          const sent = update(percent, { estimated_seconds_remaining: seconds });
          once.apply(sent, at);
          twice.apply(sent, at);
          const repeatAt = again ? at + again.part * (next - at) : Number.POSITIVE_INFINITY;
          if (again) twice.apply(again.newId ? { ...sent, event_id: "other" } : sent, repeatAt);
          for (const now of asked) {
            if (percent < 100) expect(twice.at("t", now)).to.deep.equal(once.at("t", now));
          }
        }
      }),
      { numRuns: 300 },
    );
  });

  it("[D28] is not carried beyond what was reported by rounding", () => {
    const [endMs, nowMs] = [1024 + 3 * 2 ** -42, 1024 + 2 * 2 ** -42];
    const motion = {
      from: 22.9,
      to: 89.3,
      startMs: 2 ** -43,
      endMs,
      heardMs: 0,
      secondsRemaining: null,
      gapMs: 1,
    };
    expect(nowMs).to.be.below(endMs);
    expect(percentAt(motion, nowMs)).to.be.within(22.9, 89.3);
  });
});
