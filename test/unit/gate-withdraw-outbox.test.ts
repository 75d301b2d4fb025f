import { AGENTS_NAMESPACE, type SequenceId } from "@agentwire/shared";
import { expect } from "chai";
import fc from "fast-check";
import { createCounters } from "../../server/src/gate/counters.js";
import { Frame } from "../../server/src/gate/frame.js";
import { Exit } from "../../server/src/gate/gate.js";
import { noticeIn, numberOf, sequenceId } from "../harness/gate.js";
import { socketOf } from "../harness/hub-rig.js";
import { Desk } from "../harness/outbox-rig.js";
import {
  frameOf,
  nameOf,
  type Offer,
  offer,
  type Project,
  progressOf,
  projectOf,
  projects,
  statusOf,
} from "../harness/project-frames.js";

/** Nothing is dropped for its age, nor for want of room. */
const patient = { depth: 1000, ttlMs: 60_000 };

type Step =
  | { offer: Offer }
  | { ready: true }
  | { block: true }
  | { wait: number }
  | { grant: number }
  | { drain: true }
  | { allow: Project[] };

const step: fc.Arbitrary<Step> = fc.oneof(
  { weight: 10, arbitrary: fc.record({ offer }) },
  { weight: 4, arbitrary: fc.constant({ ready: true } as const) },
  { weight: 1, arbitrary: fc.constant({ block: true } as const) },
  { weight: 2, arbitrary: fc.record({ wait: fc.integer({ min: 1, max: 1500 }) }) },
  { weight: 1, arbitrary: fc.record({ grant: fc.integer({ min: 1, max: 3 }) }) },
  { weight: 2, arbitrary: fc.constant({ drain: true } as const) },
  { weight: 2, arbitrary: fc.record({ allow: projects }) },
);

describe("what may not be sent any more, in an outbox", () => {
  it("[D25] never leaves, also when the right is there again; all else does, once, and its offsets skip nothing", async () => {
    const settings = fc.record({
      perSecond: fc.integer({ min: 0, max: 4 }),
      room: fc.constantFrom(0, 3, Number.POSITIVE_INFINITY),
    });
    await fc.assert(
      fc.asyncProperty(
        settings,
        fc.array(step, { maxLength: 80, size: "max" }),
        async ({ perSecond, room }, steps) => {
          const { clock, line, share, outbox } = new Desk({ ...patient, perSecond, room });
          const giveBack = clock.takeOver();
          try {
            const due = new Set<Frame>();
            const drains: { before: Frame[]; done: boolean; promise: Promise<void> }[] = [];
            let offered = 0;
            line.onWrite = ({ frame, offset }) => {
              expect(due.delete(frame), `${nameOf(frame)} is due`).to.equal(true);
              if (!offset) return;
              const place = numberOf(frame.envelope.sequence_id as SequenceId);
              const skipped = [...due].filter(
                ({ delivery, envelope }) =>
                  delivery === "log" && numberOf(envelope.sequence_id as SequenceId) < place,
              );
              // What leaves in the same write comes in its place.
              expect(skipped.map(nameOf), `before the offset of ${nameOf(frame)}`).to.deep.equal([]);
            };
            const take = (step: Step) => {
              if ("offer" in step) {
                const { kind, terms } = step.offer;
                const frame = frameOf(step.offer, ++offered);
                if (kind === "state" && [...due].some((one) => one.delivery === "state")) return; // It would merge.
                due.add(frame);
                const before = kind === "high" || kind === "critical" ? sequenceId(offered - 1) : undefined;
                outbox.send(frame, kind === "control" ? "free" : terms, before);
              } else if ("ready" in step) line.ready();
              else if ("block" in step) line.block();
              else if ("wait" in step) clock.move(step.wait);
              else if ("grant" in step) share.grant(step.grant);
              else if ("drain" in step) {
                const one = { before: [...due], done: false, promise: outbox.drained() };
                void one.promise.then(() => {
                  one.done = true;
                });
                drains.push(one);
              } else {
                const may = (frame: Frame) =>
                  frame.delivery === "control" || step.allow.includes(projectOf(frame));
                for (const frame of due) if (!may(frame)) due.delete(frame);
                outbox.withdraw(may);
              }
            };
            const breath = async () => {
              for (let n = 0; n < 4; n++) await null;
              for (const { before, done } of drains)
                if (done)
                  expect(before.filter((frame) => due.has(frame)).map(nameOf), "drained").to.deep.equal([]);
            };
            for (const step of steps) {
              take(step);
              await breath();
            }
            share.grant(Number.POSITIVE_INFINITY);
            for (let n = 0; n < 2 * offered + 5; n++) {
              line.ready();
              clock.move(1000);
            }
            line.ready();
            await breath();
            expect([...due].map(nameOf)).to.deep.equal([]);
            expect(outbox.bytes).to.equal(0);
            expect(
              drains.every(({ done }) => done),
              "all are drained",
            ).to.equal(true);
          } finally {
            giveBack();
          }
        },
      ),
      { numRuns: 400 },
    );
  });

  it("[D25] who waited for the rest to leave goes on when there is no rest, also while the line is slow", async () => {
    const { clock, line, outbox } = new Desk({ ...patient, perSecond: 1 });
    const giveBack = clock.takeOver();
    try {
      for (const n of [1, 2])
        outbox.send(new Frame(AGENTS_NAMESPACE, statusOf(n, "p2", false)), "live", sequenceId(n - 1));
      line.ready();
      let drained = false;
      void outbox.drained().then(() => {
        drained = true;
      });
      outbox.withdraw(() => false);
      await null;
      expect(drained).to.equal(true);

      outbox.send(new Frame(AGENTS_NAMESPACE, statusOf(3, "p2", false)), "live", sequenceId(2));
      line.block();
      drained = false;
      void outbox.drained().then(() => {
        drained = true;
      });
      outbox.withdraw(() => false);
      await null;
      expect(drained).to.equal(false);
      line.ready();
      await null;
      expect(drained).to.equal(true);
      expect(line.written.map(({ frame }) => nameOf(frame))).to.deep.equal(["e-1"]);
    } finally {
      giveBack();
    }
  });

  it("[D25] what waits for another namespace of the connection stays", () => {
    const { line, outbox } = new Desk(patient);
    const ours = new Exit(socketOf(), outbox, createCounters());
    line.block();
    outbox.send(new Frame(AGENTS_NAMESPACE, statusOf(1, "p1", false)), "live", sequenceId(0));
    outbox.send(new Frame("/ws/other", statusOf(2, "p1", false)), "live", sequenceId(1));
    ours.withdraw(() => false);
    line.ready();
    expect(line.written.map(({ frame }) => nameOf(frame))).to.deep.equal(["e-2"]);
  });

  it("[D21][D25] what was dropped before, of whatever project, is announced all the same", () => {
    const { line, outbox } = new Desk({ ...patient, depth: 2, bytes: 10_000 });
    line.block();
    for (const [n, task] of ["t1", "t2", "t3"].entries())
      outbox.send(new Frame(AGENTS_NAMESPACE, progressOf(n, "p2", task)), "live");
    outbox.withdraw(() => false);
    line.ready();
    expect(line.written.map(({ frame }) => noticeIn(frame))).to.deep.equal([
      { of: "messages", event_type: "PROGRESS_UPDATE", count: 1, reason: "backpressure" },
    ]);
  });
});
