/**
 * Keeps the changes of one agent in their order while Redis fails. Calls normally go out side by side, and the line to
 * Redis keeps their order; once one has to try again, those after it wait behind it. Otherwise "completed" could pass
 * a "working" that is pausing, and the agent would be working for ever.
 */
export class Order {
  readonly #last = new Map<string, Promise<void>>();

  /** Whether somebody before is trying again. */
  isHeld(agentId: string): boolean {
    return this.#last.has(agentId);
  }

  /** `turn` settles when all who joined before have left. Whoever joins must leave. */
  join(agentId: string): { turn: Promise<void>; leave(): void } {
    const before = this.#last.get(agentId) ?? Promise.resolve();
    let left = () => {};
    const over = new Promise<void>((resolve) => {
      left = resolve;
    });
    const last = before.then(() => over);
    this.#last.set(agentId, last);
    return {
      turn: before,
      leave: () => {
        left();
        if (this.#last.get(agentId) === last) this.#last.delete(agentId);
      },
    };
  }
}
