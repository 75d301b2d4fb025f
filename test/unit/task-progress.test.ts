import {
  events,
  limits,
  ProgressBatch,
  ProgressReport,
  TaskProgress,
  type TaskUpdate,
} from "@agentwire/shared";
import { expect } from "chai";
import fc from "fast-check";

const subject = { task_id: "task-1", agent_id: "agent-1", project_id: "project-1" };
const steps = (current_step: number, total_steps = 100, attempt = 1): ProgressReport =>
  ProgressReport.parse({ ...subject, attempt, current_step, total_steps });
const percent = (progress_percent: number, attempt = 1): ProgressReport =>
  ProgressReport.parse({ ...subject, attempt, progress_percent });

/** Takes one report and has its update leave at once. */
function said(task: TaskProgress, report: ProgressReport, atMs: number) {
  expect(task.take(report, atMs)).to.equal(true);
  return task.update(atMs);
}
const left = (task: TaskProgress, report: ProgressReport, atMs: number): number => {
  const { estimated_seconds_remaining } = said(task, report, atMs);
  if (estimated_seconds_remaining === null) throw new Error("there is no estimate");
  return estimated_seconds_remaining;
};
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
  it("[D28] an update has the newest of all that was taken, and how many they were", () => {
    const task = new TaskProgress();
    for (let step = 1; step <= 10; step++) {
      task.take({ ...steps(step, 30), message: step < 9 ? `step ${step}` : "" }, step);
    }
    expect(task.update(100)).to.deep.equal({
      ...subject,
      current_step: 10,
      total_steps: 30,
      progress_percent: 33.33,
      message: "step 8",
      estimated_seconds_remaining: null,
      batched_updates: 10,
    });
    expect(said(task, percent(40), 200)).to.include({ batched_updates: 1, current_step: null });
    expect(() => task.update(300)).to.throw("no report was taken");
  });

  it("[D28] steps say it before a percent that was given too; 100 only when it is complete", () => {
    const both = { ...steps(1, 3), progress_percent: 90 };
    expect(said(new TaskProgress(), both, 0).progress_percent).to.equal(33.33);
    for (const report of [percent(99.999), steps(999_999, 1_000_000), steps(2 ** 53 - 2, 2 ** 53 - 1)]) {
      expect(said(new TaskProgress(), report, 0)).to.include({ progress_percent: 99.99 });
    }
    expect(said(new TaskProgress(), percent(0.29), 0).progress_percent).to.equal(0.29);
  });

  it("[D28] what is behind, or of an earlier attempt, changes nothing; a later attempt starts over", () => {
    const task = new TaskProgress();
    for (let step = 50; step < 55; step++) said(task, { ...steps(step), message: "first try" }, step * 1000);
    expect(task.take(steps(53), 55_000)).to.equal(false);
    expect(task.take({ ...percent(53.9), message: "behind" }, 55_000)).to.equal(false);
    expect(task.gathered).to.equal(0);
    expect(task.take(steps(27, 50), 56_000), "equal is not behind").to.equal(true);

    const again = said(task, steps(1, 100, 2), 60_000);
    expect(again).to.include({ progress_percent: 1, message: "", batched_updates: 1 });
    expect(again.estimated_seconds_remaining).to.equal(null);
    expect(task.take(steps(99), 61_000), "the first try is over").to.equal(false);
    expect(said(task, steps(2, 100, 2), 61_000).estimated_seconds_remaining).to.equal(null);
    expect(left(task, steps(3, 100, 2), 62_000)).to.equal(97);
  });

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

describe("a batch of progress", () => {
  /** A clock that is moved by hand. */
  function clock() {
    let now = 0;
    const timers = new Set<{ at: number; run: () => void }>();
    return {
      timers,
      now: () => now,
      after(ms: number, run: () => void) {
        const timer = { at: now + ms, run };
        timers.add(timer);
        return () => timers.delete(timer);
      },
      pass(ms: number) {
        for (const end = now + ms; ; ) {
          const [next] = [...timers].filter(({ at }) => at <= end).sort((a, b) => a.at - b.at);
          now = next?.at ?? end;
          if (!next) return;
          timers.delete(next);
          next.run();
        }
      },
    };
  }
  function batch(batchMs?: number) {
    const time = clock();
    const sent: (TaskUpdate & { at: number })[] = [];
    const gathers = new ProgressBatch({
      send: (update) => sent.push({ ...update, at: time.now() }),
      clock: time,
      ...(batchMs !== undefined && { batchMs }),
    });
    return { time, sent, gathers };
  }
  const of = (task_id: string, report: ProgressReport): ProgressReport => ({ ...report, task_id });

  it("[D28] 10 steps within 100 ms make one update; the batch begins with its first report", () => {
    const { time, sent, gathers } = batch();
    time.pass(1000);
    for (let step = 1; step <= 10; step++) {
      gathers.take(steps(step));
      time.pass(9);
    }
    expect(sent).to.have.length(0);
    time.pass(10);
    expect(sent.map(({ at, payload }) => [at, payload.current_step, payload.batched_updates])).to.deep.equal([
      [1100, 10, 10],
    ]);
    time.pass(10_000);
    expect(sent).to.have.length(1);
    expect(time.timers.size).to.equal(0);
  });

  it("[D28] the last of 10,000 rapid steps leaves at once, with all that was gathered", () => {
    const { time, sent, gathers } = batch();
    for (let step = 1; step <= 10_000; step++) {
      gathers.take(steps(step, 10_000));
      if (step % 10 === 0 && step < 10_000) time.pass(1);
    }
    const { at, payload } = sent.at(-1) as (typeof sent)[number];
    expect(at).to.equal(time.now());
    expect(payload).to.include({
      current_step: 10_000,
      progress_percent: 100,
      estimated_seconds_remaining: 0,
    });
    expect(sent.reduce((sum, update) => sum + update.payload.batched_updates, 0)).to.equal(10_000);
    expect(sent).to.have.length(10);
    expect(time.timers.size).to.equal(0);
  });

  it("[D28] what is said again of a complete task is gathered, and a new attempt's end leaves at once", () => {
    const { time, sent, gathers } = batch();
    gathers.take(steps(100));
    for (let n = 0; n < 1000; n++) gathers.take(steps(100));
    expect(sent).to.have.length(1);
    time.pass(100);
    expect(sent.map(({ payload }) => payload.batched_updates)).to.deep.equal([1, 1000]);
    gathers.take(steps(100, 100, 2));
    expect(sent.map(({ attempt }) => attempt)).to.deep.equal([1, 1, 2]);
  });

  it("[D28] what is behind starts no batch", () => {
    const { time, sent, gathers } = batch();
    gathers.take(steps(5));
    time.pass(100);
    expect(gathers.take(steps(4))).to.equal(false);
    expect(time.timers.size).to.equal(0);
    expect(sent).to.have.length(1);
  });

  it("[D28] tasks do not disturb each other; flush sends what was gathered, of one or of all", () => {
    const { time, sent, gathers } = batch();
    gathers.take(of("a", steps(1)));
    gathers.take({ ...of("a", steps(50)), project_id: "project-2" });
    gathers.take(of("b", steps(2)));
    gathers.flush({ task_id: "b", project_id: "project-1" });
    expect(sent.map(({ payload }) => payload.current_step)).to.deep.equal([2]);
    gathers.flush();
    gathers.flush();
    expect(sent.map(({ payload }) => payload.current_step)).to.deep.equal([2, 1, 50]);
    expect(time.timers.size).to.equal(0);
  });

  it("[D28] a late report does not start a complete task again; after a minute it is forgotten", () => {
    const { time, sent, gathers } = batch();
    gathers.take(steps(100));
    time.pass(59_000);
    expect(gathers.take(steps(99))).to.equal(false);
    time.pass(2000);
    gathers.take(of("other", steps(1)));
    expect(gathers.size).to.equal(1);
    expect(sent).to.have.length(1);
  });

  it("[D28] a task whose next attempt runs is not complete any more, and is not forgotten", () => {
    const { time, gathers } = batch();
    gathers.take(steps(100));
    time.pass(1000);
    gathers.take(steps(50, 100, 2));
    time.pass(61_000);
    gathers.take(of("other", steps(1)));
    expect(gathers.take(steps(49, 100, 2))).to.equal(false);
  });

  it("[D28] it remembers the tasks heard of last, and forgets none unsaid", () => {
    const { sent, gathers } = batch();
    for (let n = 0; n < limits.progressTasks; n++) gathers.take(of(`task-${n}`, steps(1)));
    gathers.take(of("task-0", steps(2)));
    gathers.take(of("new", steps(1)));
    expect(gathers.size).to.equal(limits.progressTasks);
    expect(sent.map(({ payload }) => payload.task_id)).to.deep.equal(["task-1"]);
    expect(gathers.take(of("task-0", steps(1))), "still known").to.equal(false);
  });

  it("[D28] with the clock of the machine", async () => {
    const update = await new Promise<TaskUpdate>((send) => {
      const gathers = new ProgressBatch({ send, batchMs: 20 });
      for (let step = 1; step <= 10; step++) gathers.take(steps(step));
    });
    expect(update.payload).to.include({ current_step: 10, batched_updates: 10 });
  });
});
