import { events, TaskProgress } from "@agentwire/shared";
import { expect } from "chai";
import fc from "fast-check";
import { left, percent, said, steps } from "../harness/task-progress.js";

/** One update per step. `stepMs` tells how long the step before this one took. */
function* walk(task: TaskProgress, stepMs: (step: number) => number, total = 100) {
  let at = 1_000_000;
  for (let step = 0; step <= total; step++) {
    if (step > 0) at += stepMs(step);
    const { estimated_seconds_remaining: estimate } = said(task, steps(step, total), at);
    let remaining = 0;
    for (let next = step + 1; next <= total; next++) remaining += stepMs(next) / 1000;
    yield { step, at, estimate, remaining };
  }
}

describe("a task's progress", () => {
  describe("how long it will still take", () => {
    for (const [title, stepMs] of [
      ["0.1 s", () => 100],
      ["1 s", () => 1000],
      ["an hour", () => 3_600_000],
    ] as const) {
      it(`[D28] at one step each ${title}: unknown twice, then within 10 %, and 0 at the end`, () => {
        for (const { step, estimate, remaining } of walk(new TaskProgress(), stepMs)) {
          if (step < 2) expect(estimate).to.equal(null);
          else if (step === 100) expect(estimate).to.equal(0);
          else expect(estimate, `at step ${step}`).to.be.closeTo(remaining, remaining * 0.1);
        }
      });
    }

    it("[D28] at constant speed updates may come as irregularly as they like", () => {
      fc.assert(
        fc.property(
          fc.array(fc.integer({ min: 1, max: 20_000 }), { minLength: 3, maxLength: 60 }),
          fc.integer({ min: 1, max: 10_000_000 }),
          (gaps, rest) => {
            const total = gaps.reduce((sum, gap) => sum + gap, rest);
            const task = new TaskProgress();
            let at = 0;
            for (const [n, gap] of gaps.entries()) {
              const { estimated_seconds_remaining: estimate } = said(task, percent((at / total) * 100), at);
              const remaining = (total - at) / 1000;
              if (n >= 2) expect(estimate).to.be.closeTo(remaining, remaining * 0.1);
              at += gap;
            }
          },
        ),
      );
    });

    it("[D28] at constant speed the time since the newest report is taken off, and reports without progress do no harm", () => {
      const task = new TaskProgress();
      for (let step = 0; step < 50; step++) {
        const at = step * 1000;
        task.take(steps(step), at);
        for (let more = 1; more < 4; more++) task.take({ ...steps(step), message: "still" }, at + more * 100);
        const first = task.update(at + 400).estimated_seconds_remaining;
        const second = said(task, steps(step), at + 800).estimated_seconds_remaining;
        if (step < 2) continue;
        expect(first).to.be.closeTo(100 - step - 0.4, 0.1);
        expect(second).to.be.closeTo(100 - step - 0.8, 0.1);
      }
    });

    for (const factor of [2, 5, 10]) {
      it(`[D28] it follows within 5 updates when steps take ${factor} times as long`, () => {
        for (const from of [3, 20, 70, 90]) {
          for (const { step, estimate, remaining } of walk(new TaskProgress(), (its) =>
            its > from ? factor * 1000 : 1000,
          )) {
            if (step < from + 5 || step === 100) continue;
            expect(estimate, `step ${step}, slow after ${from}`).to.be.closeTo(remaining, remaining * 0.1);
          }
        }
      });

      it(`[D28] it follows within 5 updates when updates come as before, with 1/${factor} of the progress`, () => {
        const task = new TaskProgress();
        let at = 0;
        let done = 0;
        for (; done < 30; done++, at += 1000) said(task, percent(done), at);
        said(task, percent(done), at);
        at += 1000;
        for (let update = 1; update <= 60; update++, at += 1000) {
          done += 1 / factor;
          const remaining = (100 - done) * factor;
          const estimate = left(task, percent(done), at);
          if (update >= 5) expect(estimate, `update ${update}`).to.be.closeTo(remaining, remaining * 0.1);
        }
      });

      it(`[D28] it follows within 5 updates when it is ${factor} times as fast, but for the bound`, () => {
        const task = new TaskProgress();
        let at = 0;
        let done = 0;
        for (; done < 10; done += 0.1, at += 1000) said(task, percent(done), at);
        said(task, percent(done), at);
        at += 1000;
        for (let update = 1; update <= 40; update++, at += 1000) {
          done += 0.1 * factor;
          const remaining = (100 - done) / (0.1 * factor);
          const estimate = left(task, percent(done), at);
          if (update >= 5) expect(estimate, `update ${update}`).to.be.closeTo(remaining, remaining * 0.1);
        }
      });
    }

    it("[D28] a pause of an hour is forgotten within 20 updates", () => {
      const walked = [...walk(new TaskProgress(), (step) => (step === 30 ? 3_600_000 : 1000))];
      for (const { step, estimate, remaining } of walked) {
        if (step >= 50 && step < 100) expect(estimate).to.be.closeTo(remaining, remaining * 0.1);
      }
    });

    it("[D28] a task that hardly moves has a year left, not an infinite time", () => {
      const task = new TaskProgress();
      for (const [n, done] of [0, 5e-324, 1e-323].entries())
        task.take(percent(done), n) && task.update(n * 3_600_000);
      expect(left(task, percent(1.5e-323), 4 * 3_600_000)).to.equal(31_500_000);
    });

    it("[D28] while a task stands still it does not shrink to 0, and grows in the end", () => {
      for (const stuckAt of [3, 50, 99]) {
        const task = new TaskProgress();
        let before = 0;
        for (let step = 0; step <= stuckAt; step++)
          before = said(task, steps(step), step * 1000).estimated_seconds_remaining ?? 0;
        let last = before;
        for (let n = 1; n <= 1000; n++) {
          const estimate = left(task, steps(stuckAt), stuckAt * 1000 + n * 500);
          expect(estimate).to.be.at.least(Math.max(before - 1, before / 4) * 0.99);
          if (n > 2) expect(estimate).to.be.at.least(last);
          last = estimate;
        }
        expect(last)
          .to.be.above(before * 10)
          .and.below(before * 1000);
      }
    });

    /** Reports of one or two attempts, in any order, with any gap between them; some with an update after them. */
    const story = fc.array(
      fc.record({
        percent: fc.oneof(
          fc.double({ min: 0, max: 100, noNaN: true }),
          fc.constantFrom(0, 1e-300, 99.9999999, 100),
        ),
        gapMs: fc.oneof(
          fc.constant(0),
          fc.double({ min: 0, max: 1, noNaN: true }),
          fc.integer({ min: 1, max: 2000 }),
          fc.integer({ min: 1, max: 10_000_000_000 }),
        ),
        attempt: fc.integer({ min: 1, max: 2 }),
        leaves: fc.boolean(),
      }),
      { maxLength: 60 },
    );

    const hold = (list: { percent: number; gapMs: number; attempt: number; leaves: boolean }[]) => {
      const task = new TaskProgress();
      let at = 0;
      let before: { attempt: number; percent: number; estimate: number | null; at: number } | undefined;
      for (const { gapMs, attempt, leaves, ...report } of list) {
        at += gapMs;
        task.take(percent(report.percent, attempt), at);
        if (!leaves || task.gathered === 0) continue;
        const update = task.update(at);
        events.PROGRESS_UPDATE.payload.parse(update);
        const estimate = update.estimated_seconds_remaining;
        if (estimate !== null) expect(Number.isFinite(estimate) && estimate >= 0).to.equal(true);
        if (update.progress_percent === 100) expect(estimate).to.equal(0);
        if (before) expect(task.attempt).to.be.at.least(before.attempt);
        if (before?.attempt === task.attempt) {
          expect(update.progress_percent).to.be.at.least(before.percent);
          if (before.estimate !== null && update.progress_percent < 100) {
            if (estimate === null) throw new Error("it was known before");
            const passed = (at - before.at) / 1000;
            // Of both estimates we see three digits.
            const [low, high] = [before.estimate * 0.995, before.estimate * 1.0051];
            expect(estimate).to.be.at.least((Math.max(0, low - passed) / 2) * 0.995);
            expect(estimate).to.be.at.most(2 * Math.max(high, passed) * 1.0051);
          }
        }
        before = { attempt: task.attempt, percent: update.progress_percent, estimate, at };
      }
    };

    it("[D28] whatever comes: never backwards, negative, NaN or infinite, and no change beyond its bound", () => {
      fc.assert(fc.property(story, hold), { numRuns: 1000 });
    });

    it("[D28] the same for sequences that only grow", () => {
      const grows = story.map((list) =>
        list.map((one) => ({ ...one, attempt: 1 })).sort((a, b) => a.percent - b.percent),
      );
      fc.assert(fc.property(grows, hold), { numRuns: 1000 });
    });
  });
});
