import type { Progress, Status } from "@agentwire/shared";
import type { SequenceId } from "@agentwire/shared/sequence";
import { expect } from "chai";
import fc from "fast-check";
import type { ViewerEnvelope } from "../../client/src/events.js";
import { createProgressStore } from "../../client/src/progress.js";
import { percentAt } from "../../client/src/smooth.js";
import { createStore } from "../../client/src/store.js";

const MINUTE = 60_000;
const HOUR = 60 * MINUTE;
const control = { event_id: "e", timestamp: "2026-01-01T00:00:00.000Z", priority: "HIGH" } as const;
let made = 0;

/** An update of its own id. */
function update(percent: number, about: Partial<Progress> = {}): ViewerEnvelope {
  made += 1;
  return {
    ...control,
    event_id: `event-${made}`,
    event_type: "PROGRESS_UPDATE",
    payload: {
      task_id: "t",
      agent_id: "a",
      project_id: "p",
      current_step: null,
      total_steps: null,
      progress_percent: percent,
      message: `update ${made}`,
      estimated_seconds_remaining: null,
      batched_updates: 1,
      ...about,
    },
  };
}

const status = (
  new_status: Status,
  sequence_id: SequenceId,
  agent_id = "a",
  task_id = "t",
): ViewerEnvelope => ({
  ...control,
  event_type: "AGENT_STATUS_CHANGED",
  sequence_id,
  payload: { agent_id, project_id: "p", task_id, old_status: null, new_status },
});

/** A client's two stores, wired as client.ts does it. */
function stores() {
  const agents = createStore();
  const progress = createProgressStore(agents.get);
  return {
    ...progress,
    apply(envelope: ViewerEnvelope, nowMs: number) {
      agents.apply(envelope);
      progress.apply(envelope, nowMs);
    },
    percent: (nowMs: number) => progress.at("t", nowMs)?.percent,
    seconds: (nowMs: number) => progress.at("t", nowMs)?.estimated_seconds_remaining,
  };
}

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

  for (const end of ["completed", "failed", "cancelled"] as const) {
    it(`[D28] stops where it is when its agent says ${end}`, () => {
      const store = stores();
      store.apply(update(10, { estimated_seconds_remaining: 18 }), 0);
      store.apply(update(60, { estimated_seconds_remaining: 8 }), 2000);
      store.apply(status(end, "5-0"), 2100);
      expect(store.get("t")).to.include({ ended: end, progress_percent: 60 });
      const stopped = { percent: 60, estimated_seconds_remaining: null, still: true };
      expect(store.at("t", 2400)).to.deep.equal(stopped);
      expect(store.at("t", 12_000)).to.deep.equal(stopped);
    });
  }

  it("[D28] only the newest status counts, and only that of the task's agent and of the task", () => {
    const store = stores();
    store.apply(update(10), 0);
    const ended = () => store.get("t")?.ended;
    store.apply(status("failed", "3-0", "another"), 1);
    store.apply(status("failed", "4-0", "a", "another"), 1);
    expect(ended(), "of another agent, of another task").to.equal(undefined);
    store.apply(status("stuck", "10-0"), 1);
    store.apply(status("failed", "9-0"), 1);
    expect(ended()).to.equal(undefined);
    store.apply(status("failed", "11-0"), 2);
    expect(ended()).to.equal("failed");
    store.apply(status("working", "12-0"), 3);
    expect(ended(), "it is tried again").to.equal(undefined);
    store.apply(
      {
        ...control,
        event_type: "SNAPSHOT",
        payload: {
          sequence_id: "20-0",
          agents: [
            {
              agent_id: "a",
              project_id: "p",
              task_id: "t",
              status: "cancelled",
              sequence_id: "15-0",
              timestamp: "",
            },
          ],
        },
      },
      4,
    );
    expect(ended()).to.equal("cancelled");
    store.apply(update(5), 5);
    expect(ended(), "a lower value is a new attempt").to.equal(undefined);
    store.restart();
    store.apply(status("completed", "2-0"), 6);
    expect(ended(), "of a new history").to.equal("completed");
  });

  it("[D28] the end may overtake the last update, and the first", () => {
    const store = stores();
    store.apply(status("completed", "5-0", "b", "u"), 0);
    store.apply(update(30, { task_id: "u", agent_id: "b", estimated_seconds_remaining: 1 }), 1);
    expect(store.get("u")?.ended).to.equal("completed");
    expect(store.at("u", 1)?.estimated_seconds_remaining).to.equal(null);
    store.apply(status("working", "4-0", "b", "u"), 2);
    expect(store.get("u")?.ended, "what was said before the end").to.equal("completed");
    store.apply(update(10), 0);
    store.apply(status("completed", "6-0"), 2000);
    store.apply(update(100), 2010);
    expect(store.get("t")).to.include({ ended: "completed", progress_percent: 100 });
    expect(store.percent(2310)).to.equal(100);
  });

  it("[D28] forgets a task ten seconds after it reached 100 % or ended, and after an hour of silence", () => {
    const store = stores();
    store.apply(update(100), 0);
    store.apply(update(50, { task_id: "failed" }), 0);
    store.apply(status("failed", "1-0", "a", "failed"), 0);
    store.apply(update(50, { task_id: "silent" }), 0);
    const repeated = update(50, { task_id: "repeated" });
    store.apply(repeated, 0);
    const known = () => store.getSnapshot().map(({ task_id }) => task_id);
    store.apply(repeated, 9_999);
    expect(store.percent(9_999)).to.equal(100);
    expect(known()).to.deep.equal(["t", "failed", "silent", "repeated"]);
    expect(store.percent(10_000), "it is gone for who asks, though nothing was heard since").to.equal(
      undefined,
    );
    store.apply(repeated, 10_000);
    expect(known()).to.deep.equal(["silent", "repeated"]);
    expect(store.at("silent", HOUR - 1)?.percent).to.equal(50);
    expect(store.at("silent", HOUR)).to.equal(undefined);
    store.apply(update(60, { task_id: "silent" }), HOUR);
    expect(store.at("silent", HOUR), "it begins anew").to.include({ percent: 60, still: true });
    expect(known()).to.deep.equal(["repeated", "silent"]);
    store.apply(status("cancelled", "2-0", "a", "silent"), HOUR + 1000);
    store.apply(update(61, { task_id: "silent" }), HOUR + 6000);
    expect(store.at("silent", HOUR + 10_999)?.percent).to.equal(61);
    expect(
      store.at("silent", HOUR + 11_000),
      "ten seconds after the end, not after the last update",
    ).to.equal(undefined);
  });

  it("[D28] remembers 10,000 tasks at most: those that are over go first, then the most silent", () => {
    const store = stores();
    store.apply(update(1, { task_id: "first" }), 0);
    store.apply(update(100, { task_id: "over" }), 1);
    for (let n = 2; n < 10_000; n++) store.apply(update(1, { task_id: `t${n}` }), 2);
    store.apply(update(2, { task_id: "first" }), 3);
    store.apply(update(100, { task_id: "over", message: "again" }), 3);
    expect(store.getSnapshot().length).to.equal(10_000);
    store.apply(update(1, { task_id: "more" }), 4);
    store.apply(update(1, { task_id: "and more" }), 5);
    expect(store.getSnapshot().length).to.equal(10_000);
    const present = ["first", "over", "t2", "t3", "more", "and more"].map(
      (id) => store.get(id) !== undefined,
    );
    expect(present).to.deep.equal([true, false, false, true, true, true]);
  });

  it("[D28] tasks that are gone take no place", () => {
    const store = stores();
    store.apply(update(1, { task_id: "first" }), 0);
    for (let n = 1; n < 10_000; n++) store.apply(update(1, { task_id: `t${n}`, project_id: "p2" }), 1);
    store.apply({ ...control, event_type: "ACCESS_REVOKED", payload: { project_ids: ["p2"] } }, 2);
    store.apply(update(1, { task_id: "new" }), 3);
    expect(store.getSnapshot().map(({ task_id }) => task_id)).to.deep.equal(["first", "new"]);
  });

  it("[D28] tasks outside new filters, or of a revoked project, are gone", () => {
    const store = stores();
    for (const [task_id, agent_id, project_id] of [
      ["t1", "a", "p1"],
      ["t2", "b", "p1"],
      ["t3", "a", "p2"],
    ] as const)
      store.apply(update(1, { task_id, agent_id, project_id }), 0);
    const ids = () => store.getSnapshot().map(({ task_id }) => task_id);
    const filters = { agent_ids: ["a"], project_ids: [], event_types: ["PROGRESS"] };
    store.apply({ ...control, event_type: "FILTERS_UPDATED", payload: filters }, 0);
    expect(ids()).to.deep.equal(["t1", "t3"]);
    store.apply({ ...control, event_type: "ACCESS_REVOKED", payload: { project_ids: ["p2"] } }, 0);
    expect(ids()).to.deep.equal(["t1"]);
    store.apply(
      { ...control, event_type: "FILTERS_UPDATED", payload: { ...filters, event_types: ["FAILED"] } },
      0,
    );
    expect(ids()).to.deep.equal([]);
  });

  it("[D28] what was handed out never changes, and is the same until there is news", () => {
    const store = stores();
    let calls = 0;
    const stop = store.subscribe(() => {
      calls += 1;
    });
    const sent = update(10);
    store.apply(sent, 0);
    const before = store.getSnapshot();
    store.apply(sent, 500);
    store.apply(status("working", "1-0"), 600);
    store.at("t", 700);
    expect(store.getSnapshot()).to.equal(before);
    expect(calls).to.equal(1);
    store.apply(status("failed", "2-0"), 800);
    store.apply(update(20), 900);
    expect(store.getSnapshot()).not.to.equal(before);
    expect(before[0]).to.include({ progress_percent: 10 });
    expect(before[0]).not.to.have.property("ended");
    expect(calls).to.equal(3);
    stop();
    store.apply(update(30), 1000);
    expect(calls).to.equal(3);
  });
});
