import type { ChildProcess } from "node:child_process";
import { fstatSync } from "node:fs";
import type { Writable } from "node:stream";
import { setTimeout as sleep } from "node:timers/promises";
import { ownOutput } from "./own-output.js";
import { openPipe, type Pipe } from "./pipe.js";
import type { Terminal } from "./terminal.js";

/** How long nothing must come after the command has ended: what it started may hold its output open for ever. */
const SILENCE_MS = 500;

/**
 * Hands what a child writes on to our own stdout and stderr and to a terminal, as fast as the slower of both takes it.
 * Where our two are one (`2>&1`) so are the child's, since only then their order is kept; all of it is `stdout`.
 */
export class Tee {
  readonly #pipes: (Pipe & { own: Writable; to: Writable[] })[];
  /** What the child is given. */
  readonly stdio: [stdout: number, stderr: number];

  constructor(terminal: Terminal) {
    const stdout = { ...openPipe(), own: ownOutput(1) };
    const stderr = isOne(1, 2) ? stdout : { ...openPipe(), own: ownOutput(2) };
    this.#pipes = [{ ...stdout, to: [stdout.own, terminal.stdout] }];
    if (stderr !== stdout) this.#pipes.push({ ...stderr, to: [stderr.own, terminal.stderr] });
    this.stdio = [stdout.fd, stderr.fd];
  }

  /** The child has it, or could not be started. */
  begin(child: ChildProcess): void {
    for (const { from, own, to, closeFd } of this.#pipes) {
      closeFd();
      // Nobody reads our output any more: nor do we read the child's, and it learns it as it would without us.
      own.once("error", () => from.destroy());
      for (const one of to) from.pipe(one, { end: false });
      if (child.pid === undefined) from.destroy();
    }
  }

  /** Settles when all that the child wrote has been handed on. The child has ended. */
  async end(): Promise<void> {
    const closed = Promise.all(this.#pipes.map(({ from }) => isClosed(from)));
    for (let before = -1; this.#pipes.some(({ from }) => !from.closed); ) {
      await Promise.race([closed, sleep(SILENCE_MS, undefined, { ref: false })]);
      const now = this.#pipes.reduce((sum, { from }) => sum + from.bytesRead, 0);
      const isTaken = this.#pipes.every(({ to }) => to.every((one) => one.writableLength === 0));
      if (now === before && isTaken) for (const { from } of this.#pipes) from.destroy();
      before = now;
    }
    for (const { own } of this.#pipes) own.end();
    await Promise.all(this.#pipes.map(({ own }) => isClosed(own)));
  }
}

function isClosed(stream: NodeJS.EventEmitter & { closed: boolean }): Promise<void> {
  return new Promise((resolve) => {
    if (stream.closed) resolve();
    else stream.once("close", resolve);
  });
}

function isOne(a: number, b: number): boolean {
  const [one, other] = [fstatSync(a), fstatSync(b)];
  return one.dev === other.dev && one.ino === other.ino;
}
