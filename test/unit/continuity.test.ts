import { SEQUENCE_START } from "@agentwire/shared";
import { expect } from "chai";
import { Continuity } from "../../server/src/node/continuity.js";

describe("continuity", () => {
  /** A node that handled everything up to 10-0 of the history "now". */
  const at = (last = "10-0") => new Continuity("now", last);

  describe("judges an entry by the one it names as the one before it", () => {
    const cases: [string, { id: string; prev: string; epoch?: string }, string][] = [
      ["follows the last one", { id: "11-0", prev: "10-0" }, "next"],
      ["follows in the same millisecond", { id: "10-1", prev: "10-0" }, "next"],
      ["names one that was not seen", { id: "12-0", prev: "11-0" }, "gap"],
      ["names one before the last one", { id: "11-0", prev: "9-0" }, "gap"],
      ["begins a history though one is known", { id: "11-0", prev: SEQUENCE_START }, "gap"],
      ["is the last one", { id: "10-0", prev: "9-0" }, "repeat"],
      ["is an older one", { id: "9-0", prev: "8-0" }, "repeat"],
      ["is older by number, not by text", { id: "9-5", prev: "9-4" }, "repeat"],
      ["is of another history", { id: "11-0", prev: "10-0", epoch: "then" }, "other_history"],
      [
        "is of another history, and older",
        { id: "1-0", prev: SEQUENCE_START, epoch: "then" },
        "other_history",
      ],
    ];
    for (const [what, entry, finding] of cases) {
      it(`[D9] an entry that ${what}: ${finding}`, () => {
        const continuity = at();
        expect(continuity.judgeEntry({ epoch: "now", ...entry })).to.equal(finding);
        expect(continuity.last, "judging moves nothing").to.equal("10-0");
      });
    }

    it("[D9] the first entry of a history is next for a node that has seen none", () => {
      const continuity = new Continuity("now");
      expect(continuity.judgeEntry({ id: "1-0", prev: SEQUENCE_START, epoch: "now" })).to.equal("next");
    });
  });

  it("[D9][D10] an entry that does not know of the last one: Redis lost that, until the history has another name", () => {
    const continuity = at();
    continuity.judgeEntry({ id: "11-0", prev: "10-0", epoch: "now" });
    continuity.judgeEntry({ id: "13-0", prev: "12-0", epoch: "now" });
    expect(continuity.lostEnd).to.equal(false);
    continuity.judgeEntry({ id: "11-0", prev: "9-0", epoch: "now" });
    expect(continuity.lostEnd).to.equal(true);
    continuity.epoch = "now";
    expect(continuity.lostEnd).to.equal(true);
    continuity.epoch = "next";
    expect(continuity.lostEnd).to.equal(false);
  });

  it("[D9] what was appended before the history got its name is nothing new, wherever it stands", () => {
    const continuity = at();
    continuity.epoch = "next";
    expect(continuity.judgeEntry({ id: "11-0", prev: "10-0", epoch: "now" })).to.equal("repeat");
    expect(continuity.judgeEntry({ id: "11-0", prev: "10-0", epoch: "next" })).to.equal("next");
    expect(continuity.judgeEntry({ id: "11-0", prev: "10-0", epoch: "then" })).to.equal("other_history");
  });

  describe("judges the head that stands in Redis", () => {
    const head = (head: string, epoch = "now") => ({ head, epoch });

    it("[D9] the node's own last event: level", () => {
      expect(at().judgeHead(head("10-0"), "10-0")).to.equal("level");
    });

    it("[D9] ahead once: level, the reader may be on its way; ahead twice without an entry: behind", () => {
      const continuity = at();
      expect(continuity.judgeHead(head("11-0"), "10-0")).to.equal("level");
      expect(continuity.judgeHead(head("12-0"), "10-0")).to.equal("behind");
      expect(continuity.judgeHead(head("12-0"), "10-0"), "as long as nothing comes").to.equal("behind");
    });

    it("[D9] ahead at each look while entries come: level, for it is not stuck", () => {
      const continuity = at();
      for (let n = 11; n < 20; n++) {
        const before = continuity.last;
        expect(continuity.judgeHead(head(`${n + 5}-0`), before)).to.equal("level");
        continuity.last = `${n}-0`;
      }
    });

    it("[D9] a look that finds nothing in between forgets the lag before it", () => {
      const continuity = at();
      expect(continuity.judgeHead(head("11-0"), "10-0")).to.equal("level");
      continuity.last = "11-0";
      expect(continuity.judgeHead(head("11-0"), "11-0")).to.equal("level");
      expect(continuity.judgeHead(head("12-0"), "11-0")).to.equal("level");
      expect(continuity.judgeHead(head("12-0"), "11-0")).to.equal("behind");
    });

    it("[D9][D10] a head before what was handled when Redis was asked: rolled back", () => {
      expect(at().judgeHead(head("9-0"), "10-0")).to.equal("rolled_back");
      expect(at().judgeHead(head(SEQUENCE_START), "10-0")).to.equal("rolled_back");
      expect(at("10-5").judgeHead(head("10-4"), "10-5")).to.equal("rolled_back");
    });

    it("[D9] what came in while Redis answered is no sign that it went back", () => {
      const continuity = at("12-0");
      expect(continuity.judgeHead(head("11-0"), "10-0")).to.equal("level");
      expect(continuity.judgeHead(head("12-0"), "12-0")).to.equal("level");
    });

    it("[D9][D10] another epoch: another history, whatever its head", () => {
      for (const found of ["9-0", "10-0", "11-0"]) {
        expect(at().judgeHead(head(found, "then"), "10-0")).to.equal("other_history");
      }
    });
  });
});
