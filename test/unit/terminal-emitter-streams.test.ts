import { spawn } from "node:child_process";
import { randomBytes } from "node:crypto";
import { once } from "node:events";
import type { Socket } from "node:net";
import { createEmitter } from "@agentwire/emitter";
import { AgentwireError, limits } from "@agentwire/shared";
import type { TerminalOutput } from "@agentwire/shared/redis";
import { expect } from "chai";
import fc from "fast-check";
import { bytesOf, endOf, KB, publishedTerminals, write } from "../harness/published-terminal.js";
import { onTeardown } from "../harness/teardown.js";
import { hashOf } from "../harness/terminal.js";
import { until } from "../harness/wait.js";

/** Each byte with its stream. */
function labelled(outputs: Pick<TerminalOutput, "stream" | "data">[]): Buffer {
  return Buffer.concat(
    outputs.map(({ stream, data }) => {
      const both = Buffer.alloc(2 * data.length, stream);
      for (const [n, byte] of data.entries()) both.set([byte, stream === "stdout" ? 1 : 2], 2 * n);
      return both;
    }),
  );
}

describe("a task's terminal, published", () => {
  const { server, watched } = publishedTerminals();

  it("[D29] bytes arrive exactly as they were written: ANSI, NUL, invalid UTF-8, anything", async () => {
    const { node, terminal } = await watched();
    const written = Buffer.concat([
      Buffer.from("\u001b[31mred\u001b[0m\r\n\0ü"),
      Buffer.from([0xff, 0xfe, 0xc3, 0x28, 0x00, 0x7b]),
      randomBytes(100_000),
    ]);
    await write(terminal, "stdout", written);
    await terminal.end(0);
    await until("the end", () => node.ended());
    expect(hashOf(bytesOf(node.heard))).to.equal(hashOf(written));
    expect(node.ended()).to.deep.equal({ end: true, offset: written.length, exit_code: 0 });
  });

  it("[D29] however it is written: one order of both streams, offsets without a hole, chunks of 4096 at most", async () => {
    const writes = fc.array(
      fc.record({
        stream: fc.constantFrom("stdout" as const, "stderr" as const),
        data: fc.oneof(
          { weight: 5, arbitrary: fc.uint8Array({ maxLength: 20 }) },
          { weight: 1, arbitrary: fc.uint8Array({ minLength: 4000, maxLength: 100_000, size: "max" }) },
        ),
      }),
      { maxLength: 60 },
    );
    await fc.assert(
      fc.asyncProperty(writes, fc.boolean(), async (said, waits) => {
        const { node, terminal, emitter } = await watched();
        for (const { stream, data } of said) {
          if (waits) await write(terminal, stream, data);
          else terminal[stream].write(data);
        }
        await terminal.end();
        await until("the end", () => node.ended());
        const outputs = node.outputs();
        let at = 0;
        for (const { offset, data } of outputs) {
          expect(offset).to.equal(at);
          expect(data.length).to.be.within(1, limits.chunkBytes);
          at += data.length;
        }
        expect(node.ended()).to.deep.equal({ end: true, offset: at });
        expect(hashOf(labelled(outputs))).to.equal(hashOf(labelled(said)));
        await emitter.close();
      }),
      { numRuns: 25 },
    );
  });

  it("[D29] what both streams wrote while they wait for the rate keeps its order", async () => {
    const { node, terminal } = await watched({ terminalBytesPerSecond: 400 * KB });
    const said: { stream: "stdout" | "stderr"; data: Uint8Array }[] = [];
    for (let n = 0; n < 40; n++) {
      const stream = n % 3 ? ("stdout" as const) : ("stderr" as const);
      const data = randomBytes(10 * KB);
      said.push({ stream, data });
      terminal[stream].write(data);
    }
    terminal.stderr.end("bye");
    said.push({ stream: "stderr", data: Buffer.from("bye") });
    await terminal.end();
    await until("the end", () => node.ended());
    expect(hashOf(labelled(node.outputs()))).to.equal(hashOf(labelled(said)));
  });

  it("[D29] one stream that is corked, ended or destroyed does not hold up the other", async () => {
    const { node, terminal } = await watched();
    terminal.stdout.cork();
    terminal.stdout.write("later");
    await write(terminal, "stderr", "first ");
    await until("the other", () => bytesOf(node.heard).toString() === "first ");
    terminal.stdout.uncork();
    await until("it too", () => bytesOf(node.heard).toString() === "first later");
    terminal.stdout.end();
    await write(terminal, "stderr", " on");
    await until("the other goes on", () => bytesOf(node.heard).toString() === "first later on");
    terminal.stderr.destroy();
    await terminal.end(1);
    expect(await until("the end", () => node.ended())).to.include({ exit_code: 1, offset: 14 });
  });

  it("[D29] over the rate nothing is lost: who writes waits, down to a child process", async () => {
    const rate = 200 * KB;
    const { node, terminal } = await watched({ terminalBytesPerSecond: rate });
    const child = spawn("yes", [], { stdio: ["ignore", "pipe", "inherit"] });
    onTeardown(() => void child.kill("SIGKILL"));
    const started = Date.now();
    child.stdout.pipe(terminal.stdout, { end: false });
    await until("two seconds' worth", () => endOf(node.outputs()) > 2 * rate);
    const seconds = (Date.now() - started) / 1000;
    expect(endOf(node.outputs()) / seconds).to.be.below(rate * 1.15);
    expect(seconds).to.be.above(1.7);
    expect((child.stdout as Socket).bytesRead).to.be.below(2 * rate + 350 * KB);
    child.kill("SIGKILL");
    await once(child, "close");
    await terminal.end(137);
    const end = await until("the end", () => node.ended());
    const bytes = bytesOf(node.heard);
    expect(bytes.length).to.equal(end.offset);
    expect(bytes.equals(Buffer.alloc(bytes.length, "y\n"))).to.equal(true);
  });

  for (const wrong of [-1, 1.5, "much", Number.NaN]) {
    it(`[D18] terminalBytesPerSecond ${wrong} is refused`, () => {
      expect(() => createEmitter({ redis: server().url, terminalBytesPerSecond: wrong as number }))
        .to.throw(AgentwireError, "WS_TERMINAL_BYTES_PER_SECOND")
        .include({ code: "BAD_REQUEST" });
    });
  }
});
