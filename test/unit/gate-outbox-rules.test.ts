import { expect } from "chai";
import fc from "fast-check";
import type { Rule } from "../harness/outbox-client.js";
import { type Step, World } from "../harness/outbox-model.js";

describe("outbox, whatever comes", () => {
  const size = fc.oneof(
    { weight: 6, arbitrary: fc.integer({ min: 1, max: 200 }) },
    { weight: 1, arbitrary: fc.integer({ min: 200, max: 3000 }) },
  );
  const task = fc.constantFrom("t1", "t2");
  const ready = fc.constant({ ready: true } as const);
  const step: fc.Arbitrary<Step> = fc.oneof(
    { weight: 6, arbitrary: fc.record({ log: fc.record({ urgent: fc.constant(false), size }) }) },
    { weight: 3, arbitrary: fc.record({ log: fc.record({ urgent: fc.constant(true), size }) }) },
    { weight: 2, arbitrary: fc.record({ state: fc.record({ task, size }) }) },
    { weight: 2, arbitrary: fc.record({ bytes: fc.record({ task, length: size }) }) },
    { weight: 1, arbitrary: fc.record({ control: fc.record({ size }) }) },
    { weight: 6, arbitrary: ready },
    { weight: 1, arbitrary: fc.constant({ block: true } as const) },
    { weight: 2, arbitrary: fc.record({ wait: fc.integer({ min: 0, max: 400 }) }) },
    { weight: 1, arbitrary: fc.record({ wait: fc.integer({ min: 400, max: 3000 }) }) },
    { weight: 2, arbitrary: fc.record({ grant: fc.integer({ min: 1, max: 5 }) }) },
    { weight: 2, arbitrary: fc.record({ refill: fc.constantFrom("free" as const, "limited" as const) }) },
    { weight: 2, arbitrary: fc.constant({ drained: true } as const) },
  );
  const settings = fc.record({
    depth: fc.integer({ min: 1, max: 12 }),
    bytes: fc.integer({ min: 100, max: 3000 }),
    perSecond: fc.integer({ min: 0, max: 5 }),
    ttlMs: fc.constantFrom(1000, 2500),
    room: fc.constantFrom(0, 5, Number.POSITIVE_INFINITY),
  });

  async function check(rule: Rule): Promise<void> {
    const steps = fc.array(step, { minLength: 1, maxLength: 120, size: "max" });
    await fc.assert(
      fc.asyncProperty(settings, steps, async (settings, steps) => {
        const world = new World(settings);
        const giveBack = world.clock.takeOver();
        try {
          for (const step of steps) await world.take(step);
          await world.settle();
        } finally {
          giveBack();
        }
        const broken = world.broken.filter((one) => one.rule === rule);
        expect(broken.map(({ what }) => what).join("; ")).to.equal("");
      }),
      { numRuns: 1000 },
    );
  }

  it("[D21] an offset says that everything before it was written, whatever was dropped or overtaken", () =>
    check("offsets"));

  it("[D5] status changes and offsets come in the order of the log, states never go back, output goes on where it was", () =>
    check("order"));

  it("[D20] never more than the limits allow; and nothing waits that nothing holds back", () =>
    check("limits"));

  it("[D20] what the limits hold back waits no longer than the time", () => check("in time"));

  it("[D21] each message is written, or counted in one notice, and what is recoverable comes", () =>
    check("accounts"));

  it("[D21] it is drained when what was sent before has left, at the latest when nothing waits", () =>
    check("drained"));

  it("[D21] it says that an event leaves in its order when it does so, and was not dropped", () =>
    check("answer"));
});
