import { limits, ProgressBatch, type ProgressReport, TaskProgress, type TaskUpdate } from "@agentwire/shared";
import { expect } from "chai";
import { left, percent, said, steps, subject } from "../harness/task-progress.js";

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
