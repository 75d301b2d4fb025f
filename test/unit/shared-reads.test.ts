import { type Envelope, filterable, stamp } from "@agentwire/shared";
import { expect } from "chai";
import { SharedReads } from "../../server/src/node/shared-reads.js";

function entry(sequence_id: string, message: string): { envelope: Envelope } {
  const payload = {
    agent_id: "a1",
    project_id: "p1",
    old_status: null,
    new_status: "idle" as const,
    message,
  };
  return { envelope: { ...stamp("AGENT_STATUS_CHANGED", `e-${sequence_id}`, payload), sequence_id } };
}

/** A log in which each event is there, but for those whose id begins with `gone`. */
function openLog(message = "done") {
  const asked: string[] = [];
  const log = { fails: false, asked, made: 0 };
  const reads = new SharedReads({
    async read(ids) {
      asked.push(...ids);
      await null;
      if (log.fails) throw new Error("Redis is away");
      return ids.map((id) => (id.startsWith("gone") ? undefined : entry(id, message)));
    },
    outgoing(envelope) {
      log.made++;
      return { envelope, about: filterable(envelope), urgent: false };
    },
  });
  const read = async (...ids: string[]) =>
    (await reads.read(ids)).map((event) => event?.envelope.sequence_id);
  return { log, reads, read };
}

describe("reads that joins share", () => {
  it("[D7] what many ask for at about the same time is read and made once, and each has its own in order", async () => {
    const { log, reads, read } = openLog();
    const answers = await Promise.all([read("1", "2", "3"), read("3", "gone-4", "2"), read("2", "1")]);
    expect(answers).to.deep.equal([
      ["1", "2", "3"],
      ["3", undefined, "2"],
      ["2", "1"],
    ]);
    expect(log.asked).to.deep.equal(["1", "2", "3", "gone-4"]);
    expect(log.made).to.equal(3);
    const [first] = await reads.read(["1"]);
    const [second] = await reads.read(["1"]);
    expect(first).to.equal(second);
  });

  it("[D7] where Redis fails, everybody who waits is told, and the next one asks again", async () => {
    const { log, read } = openLog();
    await read("1");
    log.fails = true;
    const outcomes = await Promise.allSettled([read("1", "2"), read("2", "3")]);
    expect(outcomes.map(({ status }) => status)).to.deep.equal(["rejected", "rejected"]);
    log.fails = false;
    expect(await read("1", "2", "3")).to.deep.equal(["1", "2", "3"]);
    expect(log.asked).to.deep.equal(["1", "2", "3", "2", "3"]);
  });

  it("[D21] it holds a bounded part of the log: large events are forgotten, and read again", async () => {
    const { log, read } = openLog("x".repeat(1_000_000));
    const ids = Array.from({ length: 5 }, (_, n) => `${n}`);
    await read(...ids);
    await read(...ids);
    expect(log.asked).to.have.length(5);
    expect(await read("5", "0")).to.deep.equal(["5", "0"]);
    expect(await read("0")).to.deep.equal(["0"]);
    expect(log.asked).to.have.length(7);
  });
});
