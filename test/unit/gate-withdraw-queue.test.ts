import { expect } from "chai";
import fc from "fast-check";
import type { Frame } from "../../server/src/gate/frame.js";
import { Loss } from "../../server/src/gate/loss.js";
import { Queue, type Waiting } from "../../server/src/gate/queue.js";
import { noticeIn, sizeOf } from "../harness/gate.js";
import { frameOf, nameOf, type Offer, offer, projectOf, projects } from "../harness/project-frames.js";
import { allOf } from "../harness/queue-rig.js";

describe("what may not be sent any more, in a queue", () => {
  const names = (entries: (Waiting | Loss)[]) =>
    entries.map((one) => (one instanceof Loss ? JSON.stringify(noticeIn(one.notice())) : nameOf(one.frame)));

  it("[D25] the rest keeps its order, and so do notices and what the server says; depth and bytes are right", () => {
    const bounds = fc.record({
      depth: fc.integer({ min: 1, max: 12 }),
      bytes: fc.integer({ min: 50, max: 1500 }),
    });
    const some = fc.array(offer, { maxLength: 40, size: "max" });
    fc.assert(
      fc.property(bounds, some, some, projects, (bounds, before, after, allowed) => {
        let dropped = 0;
        const fill = () => {
          const queue = new Queue(bounds, () => dropped++);
          before.forEach((one, n) => {
            queue.add(waiting(one, n), "backpressure");
          });
          return queue;
        };
        const waiting = (one: Offer, n: number): Waiting => {
          const frame = frameOf(one, n + 1);
          const terms = one.kind === "control" ? ("free" as const) : one.terms;
          return { frame, terms, arrival: n, ordered: true, bytes: sizeOf(frame), since: 0 };
        };
        const may = (frame: Frame) => frame.delivery === "control" || allowed.includes(projectOf(frame));
        const isLeft = (one: Waiting | Loss) => one instanceof Loss || may(one.frame);
        const expected = allOf(fill()).filter(isLeft);

        const queue = fill();
        dropped = 0;
        const asked: Frame[] = [];
        queue.keep((frame) => {
          asked.push(frame);
          return may(frame);
        });
        expect(dropped, "nobody is told").to.equal(0);
        expect(asked.some(({ delivery }) => delivery === "control")).to.equal(false);
        const messages = expected.filter((one): one is Waiting => !(one instanceof Loss));
        expect(queue.empty).to.equal(expected.length === 0);
        expect(queue.bytes).to.equal(messages.reduce((sum, { bytes }) => sum + bytes, 0));
        expect(queue.depth).to.equal(messages.filter(({ terms }) => terms === "live").length);
        expect(queue.said).to.equal(messages.filter(({ frame }) => frame.delivery === "control").length);
        const log = messages.filter(
          (one) => one.frame.delivery === "log" && (one.terms !== "live" || !one.frame.urgent),
        );
        const first = Math.min(...log.map(({ arrival }) => arrival));
        expect(queue.holdsLogBefore(first)).to.equal(false);
        expect(queue.holdsLogBefore(first + 1)).to.equal(log.length > 0);
        expect(queue.holdsBefore(Number.POSITIVE_INFINITY)).to.equal(messages.length > 0);

        // It goes on as a queue that never held what is gone.
        const kept = fill();
        kept.keep(may);
        after.forEach((one, n) => {
          kept.add(waiting(one, before.length + n), "rate_limit");
        });
        kept.keep(() => true);
        expect(names(allOf(queue))).to.deep.equal(names(expected));
        const left = allOf(kept);
        expect([kept.empty, kept.bytes, kept.depth, kept.said]).to.deep.equal([true, 0, 0, 0]);
        expect(
          left.filter(isLeft).length + after.filter((one) => one.kind !== "control").length,
        ).to.be.at.least(left.length);
      }),
      { numRuns: 400 },
    );
  });
});
