type Step = () => void | Promise<void>;

const steps: Step[] = [];

/** Remembers how to undo something. What a test starts is undone after it, the last first; every step is tried. */
export function onTeardown(step: Step): void {
  steps.push(step);
}

/** Runs `start`, and takes what it registered out of the test's own teardown: whoever called this undoes it. */
export async function keepBeyondTest<T>(
  start: () => Promise<T>,
): Promise<{ value: T; undo(): Promise<void> }> {
  const before = steps.length;
  const value = await start();
  const own = steps.splice(before);
  return { value, undo: () => runAll(own) };
}

async function runAll(list: Step[]): Promise<void> {
  const errors: unknown[] = [];
  for (let step = list.pop(); step; step = list.pop()) {
    try {
      await step();
    } catch (error) {
      errors.push(error);
    }
  }
  if (errors.length === 1) throw errors[0];
  if (errors.length > 1) throw new AggregateError(errors, errors.map(String).join("; "));
}

afterEach("what the test started is gone", () => runAll(steps));
