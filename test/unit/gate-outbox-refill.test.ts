import { expect } from "chai";
import fc from "fast-check";
import { bytesFrame, stateFrame } from "../harness/gate.js";
import { type NodeSettings, type NodeStep, OutboxNode } from "../harness/outbox-node.js";
import type { NodeRule, OutboxViewer } from "../harness/outbox-viewer.js";
import { onTeardown } from "../harness/teardown.js";

describe("outbox, connection and join", () => {
  const size = fc.oneof(
    { weight: 6, arbitrary: fc.integer({ min: 1, max: 200 }) },
    { weight: 1, arbitrary: fc.integer({ min: 200, max: 3000 }) },
  );
  const viewer = fc.constantFrom(0, 1);
  const publish = (urgent: boolean) =>
    fc.record({
      publish: fc.record({ urgent: fc.constant(urgent), size, agent_id: fc.constantFrom("a1", "a2") }),
    });
  const few = fc.integer({ min: 1, max: 3 });
  const step: fc.Arbitrary<NodeStep> = fc.oneof(
    { weight: 6, arbitrary: publish(false) },
    { weight: 3, arbitrary: publish(true) },
    { weight: 8, arbitrary: fc.record({ hear: few }) },
    { weight: 1, arbitrary: fc.record({ lose: few }) },
    { weight: 1, arbitrary: fc.constant({ look: true } as const) },
    { weight: 8, arbitrary: fc.record({ answer: few }) },
    { weight: 6, arbitrary: fc.record({ ready: viewer }) },
    { weight: 1, arbitrary: fc.record({ block: viewer }) },
    { weight: 2, arbitrary: fc.record({ wait: fc.integer({ min: 1, max: 400 }) }) },
    { weight: 1, arbitrary: fc.record({ wait: fc.integer({ min: 400, max: 3000 }) }) },
    { weight: 2, arbitrary: fc.record({ grant: fc.integer({ min: 1, max: 5 }) }) },
  );
  const settings: fc.Arbitrary<NodeSettings> = fc.record({
    depth: fc.integer({ min: 1, max: 8 }),
    bytes: fc.integer({ min: 100, max: 2000 }),
    perSecond: fc.integer({ min: 0, max: 5 }),
    ttlMs: fc.constantFrom(1000, 2500),
    room: fc.constantFrom(0, 5, Number.POSITIVE_INFINITY),
    start: fc.constantFrom("first" as const, "resume" as const),
    before: fc.integer({ min: 0, max: 8 }),
    stretch: fc.integer({ min: 1, max: 5 }),
  });

  const tight: NodeSettings = {
    depth: 1,
    bytes: 150,
    perSecond: 0,
    ttlMs: 1000,
    room: Number.POSITIVE_INFINITY,
    start: "first",
    before: 0,
    stretch: 5,
  };
  const come = (urgent: boolean): NodeStep[] => [
    { publish: { urgent, size: 100, agent_id: "a1" } },
    { hear: 1 },
  ];
  const joined: NodeStep[] = [{ answer: 9 }, { ready: 0 }, { ready: 1 }];
  /** Two go, the second too far: it is dropped, history is read, and what was read waits to leave. */
  const refilling: NodeStep[] = [
    ...joined,
    ...come(false),
    ...come(false),
    ...come(false),
    { ready: 0 },
    { ready: 0 },
  ];
  /** What once went wrong: always tried first. */
  const found: [NodeSettings, NodeStep[]][] = [
    // One that waits is pushed out by a CRITICAL one, which then must not carry an offset.
    [tight, [...joined, { block: 0 }, ...come(false), ...come(true), { ready: 0 }]],
    // A CRITICAL one was said to overtake, but all left in order: it is cut off between the two.
    [{ ...tight, bytes: 1000 }, [...joined, { block: 0 }, ...come(false), ...come(true), { ready: 0 }]],
    // A CRITICAL one comes after the last read of a refill, and goes ahead of it.
    [{ ...tight, bytes: 1000 }, [...refilling, { answer: 2 }, ...come(true), { answer: 9 }]],
    // A second one does not fit.
    [tight, [...refilling, { answer: 2 }, ...come(true), ...come(true), { answer: 9 }]],
  ];

  async function check(rule: NodeRule): Promise<void> {
    const steps = fc.array(step, { minLength: 1, maxLength: 120, size: "max" });
    await fc.assert(
      fc.asyncProperty(settings, steps, async (settings, steps) => {
        const node = new OutboxNode(settings);
        const giveBack = node.clock.takeOver();
        try {
          for (const step of steps) await node.take(step);
          await node.settle();
        } finally {
          giveBack();
        }
        const broken = node.broken.filter((one) => one.rule === rule);
        expect(broken.map(({ what }) => what).join("; ")).to.equal("");
      }),
      { numRuns: 600, examples: found },
    );
  }

  it("[D21] an offset never skips an event that was not written, at any moment", () => check("offset"));

  it("[D5] status changes and offsets come in the order of the log, each once", () => check("order"));

  it("[D8][D21] in the end each viewer has everything, and had everything up to where a replay ended", () =>
    check("complete"));

  it("[D7][D21] who is cut off anywhere, and comes back with its session, gets all that it has not", () =>
    check("session"));

  it("[D21] each event that was dropped, or not sent because of that, is counted in one notice", () =>
    check("accounts"));

  it("[D5] a CRITICAL event that went ahead comes again in its place", () => check("again"));

  for (const flood of ["states", "output", "CRITICAL events"] as const) {
    it(`[D20][D21] a refill is not put off without end by ${flood} that go on and on`, async () => {
      const node = new OutboxNode({ ...tight, depth: 20, bytes: 100_000, perSecond: 10 });
      onTeardown(node.clock.takeOver());
      const viewer = node.viewers[0] as OutboxViewer;
      for (const step of [...joined, ...Array.from({ length: 40 }, () => come(false)).flat()])
        await node.take(step);
      expect(viewer.connection.live, "something was dropped").to.equal(false);
      // For a minute twice as many as may leave; of CRITICAL ones each time another one while the last is on its way.
      for (let n = 0; n < 1200; n++) {
        if (flood === "states") viewer.outbox.send(stateFrame(`t${n % 30}`, n, 10), "live");
        if (flood === "output") viewer.outbox.send(bytesFrame("t1", n * 10, 10), "live");
        if (flood === "CRITICAL events") for (const step of come(true)) await node.take(step);
        for (const step of [{ ready: 0 }, { ready: 1 }, { answer: 4 }]) await node.take(step);
        node.clock.move(50);
      }
      expect(viewer.lacks(40), "still missing after a minute").to.deep.equal([]);
    });
  }
});
