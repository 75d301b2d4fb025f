import { Writable } from "node:stream";
import { expect } from "chai";
import { pino } from "pino";
import { leaveOutRepeats } from "../../server/src/ops/repeats.js";

describe("repeated warnings", () => {
  it("[D17] the same warning is said three times in ten seconds; the next says how many were left out", () => {
    let now = 0;
    const lines: { msg: string; left_out?: number }[] = [];
    const output = new Writable({
      write(line, _encoding, done) {
        lines.push(JSON.parse(String(line)));
        done();
      },
    });
    const logger = pino({ hooks: { logMethod: leaveOutRepeats(() => now) } }, output);
    for (let n = 0; n < 1000; n++) logger.warn({ err: "away", connection_id: n }, "session not saved");
    for (let n = 0; n < 5; n++) logger.warn({ err: `bad ${n}` }, "bus message refused");
    for (let n = 0; n < 5; n++) logger.error({ err: "bad" }, "stream entry skipped");
    for (let n = 0; n < 5; n++) logger.info({ event: "connect" }, "audit");
    now = 10_000;
    logger.warn({ err: "away" }, "session not saved");
    logger.warn("redis is away");

    const said = (what: string) => lines.filter(({ msg }) => msg === what);
    expect(said("session not saved").map(({ left_out }) => left_out)).to.deep.equal([
      undefined,
      undefined,
      undefined,
      997,
    ]);
    for (const what of ["bus message refused", "stream entry skipped", "audit"])
      expect(said(what)).to.have.length(5);
    expect(said("redis is away")).to.have.length(1);
  });
});
