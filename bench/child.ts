import { type ChildProcess, fork } from "node:child_process";
import { once } from "node:events";
import { fileURLToPath } from "node:url";

/** A process of its own that answers questions, one at a time. It ends when the bench does. */
export class Child<Question extends object, Answer> {
  readonly #process: ChildProcess;
  readonly #ended: Promise<never>;

  constructor(file: URL) {
    this.#process = fork(fileURLToPath(file), { serialization: "advanced" });
    this.#ended = once(this.#process, "exit").then(([code]) => {
      throw new Error(`${this.#process.spawnargs.at(-1)} ended with ${code}`);
    });
    // Whoever asks is told.
    this.#ended.catch(() => {});
  }

  get pid(): number {
    return this.#process.pid as number;
  }

  async ask<A extends Answer>(question: Question): Promise<A> {
    const answered = once(this.#process, "message");
    this.#process.send(question);
    const [answer] = await Promise.race([answered, this.#ended]);
    return answer as A;
  }

  async end(): Promise<void> {
    if (!this.#process.connected) return;
    const ended = once(this.#process, "exit");
    this.#process.kill("SIGKILL");
    await ended;
  }
}

/** The other side: runs in the child, and answers each question with what `handle` returns. */
export function answerQuestions<Question>(handle: (question: Question) => Promise<unknown>): void {
  process.on("message", async (question) => process.send?.(await handle(question as Question)));
  process.once("disconnect", () => process.exit());
}
