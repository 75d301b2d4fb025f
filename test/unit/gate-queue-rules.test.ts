import fc from "fast-check";
import { type Kind, Rules, type Step } from "../harness/queue-model.js";

describe("queue, whatever comes", () => {
  const size = fc.oneof(
    { weight: 5, arbitrary: fc.integer({ min: 1, max: 120 }) },
    { weight: 1, arbitrary: fc.integer({ min: 100, max: 600 }) },
  );
  const kind = fc.oneof(
    ...(
      [
        ["high", 4],
        ["critical", 2],
        ["state", 3],
        ["bytes", 4],
        ["control", 1],
      ] as const
    ).map(([name, weight]) => ({ weight, arbitrary: fc.constant(name as Kind) })),
  );
  const terms = fc.oneof(
    { weight: 6, arbitrary: fc.constant("live" as const) },
    { weight: 1, arbitrary: fc.constantFrom("limited" as const, "free" as const) },
  );
  const add = fc.record({
    kind,
    task: fc.constantFrom("t1", "t2", "t3"),
    size,
    terms,
    reason: fc.oneof(
      { weight: 4, arbitrary: fc.constant("backpressure" as const) },
      { weight: 1, arbitrary: fc.constant("rate_limit" as const) },
    ),
    wait: fc.integer({ min: 0, max: 10 }),
  });
  const step: fc.Arbitrary<Step> = fc.oneof(
    { weight: 8, arbitrary: fc.record({ add }) },
    { weight: 3, arbitrary: fc.record({ shift: fc.integer({ min: 1, max: 6 }) }) },
    { weight: 1, arbitrary: fc.record({ expire: fc.integer({ min: 0, max: 60 }) }) },
  );
  const bounds = fc.record({
    depth: fc.integer({ min: 1, max: 12 }),
    bytes: fc.integer({ min: 50, max: 1500 }),
  });

  it("[D5][D20][D21] order, bounds, who is dropped for whom, and the accounts: exactly as the rules say", () => {
    fc.assert(
      fc.property(bounds, fc.array(step, { minLength: 1, maxLength: 150, size: "max" }), (bounds, steps) => {
        const rules = new Rules(bounds);
        for (const step of steps) rules.take(step);
        rules.finish();
      }),
      { numRuns: 500 },
    );
  });
});
