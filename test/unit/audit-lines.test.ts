import { expect } from "chai";
import fc from "fast-check";
import type { AuditEntry } from "../../server/src/ops/audit-record.js";
import { printable } from "../../server/src/ops/printable.js";
import { auditTo, type Fields } from "../harness/audit.js";

const NAMES = ["event", "user", "ip", "time", "reason", "instance", "connection", "detail"];

describe("audit", () => {
  describe("what is written", () => {
    const kept = () => {
      const records: Fields[] = [];
      const { log, audit } = auditTo(async (batch) => {
        records.push(...batch);
      });
      return { records, log, audit };
    };

    it("[D26] any text gives one line of JSON and one entry, bounded, without a character that cannot be seen", async () => {
      const anything = fc.string({ unit: "binary", maxLength: 600 });
      const unpaired = fc.array(fc.integer({ min: 0xd7f0, max: 0xe010 }), { maxLength: 20 });
      const nasty = fc.constantFrom(
        "\n{}",
        "\u001b[2J",
        "\u0085",
        "\u2028",
        "\u202eevil",
        "a\u0000b",
        "\\n",
        '"',
      );
      const text = fc.oneof(
        anything,
        nasty,
        unpaired.map((units) => String.fromCharCode(...units)),
      );
      const list = fc.array(text, { maxLength: 60 });
      const entry = fc.record(
        {
          event: fc.constantFrom("connect", "refuse", "disconnect", "subscribe", "revoke"),
          ip: text,
          user: text,
          connection: text,
          reason: text,
          filters: fc.record({ agent_ids: list, project_ids: list, event_types: list }),
          projects: list,
        },
        { requiredKeys: ["event", "ip"] },
      );
      await fc.assert(
        fc.asyncProperty(fc.array(entry, { minLength: 1, maxLength: 5 }), async (entries) => {
          const { records, log, audit } = kept();
          for (const one of entries) audit.note(one as AuditEntry);
          await audit.flush();
          expect(log.texts).to.have.length(entries.length);
          expect(records).to.have.length(entries.length);
          for (const [n, line] of log.texts.entries()) {
            expect(line.endsWith("\n")).to.equal(true);
            expect(line.slice(0, -1)).not.to.match(/[\p{Cc}\p{Cf}\p{Cs}\p{Zl}\p{Zp}]/u);
            const { level, pid, hostname, msg, detail, ...said } = JSON.parse(line);
            expect(msg).to.equal("audit");
            const fields = records[n] as Fields;
            expect(NAMES).to.include.members(Object.keys(fields));
            const { time, detail: text, ...same } = fields;
            expect(Number.isNaN(Date.parse(time ?? ""))).to.equal(false);
            expect(said).to.deep.equal({ ...same, time: said.time });
            expect(text && JSON.parse(text)).to.deep.equal(detail);
            for (const value of Object.values(same)) expect(value.length).to.be.at.most(256);
            expect(text?.length ?? 0).to.be.below(8000);
          }
        }),
        { numRuns: 300 },
      );
    });

    it("[D26] two different texts never look alike, and what can be seen stays as it is", () => {
      const back = (text: string) =>
        text.replace(/\\(?:\\|u([0-9a-f]{4}))/g, (_, hex) =>
          hex === undefined ? "\\" : String.fromCharCode(Number.parseInt(hex, 16)),
        );
      fc.assert(
        fc.property(fc.string({ unit: "binary", maxLength: 20 }), (text) => {
          expect(back(printable(text))).to.equal(text);
        }),
      );
      const seen = 'Zoë "Ω" 日本 😀 <b>&amp;</b> a+b@example.com';
      expect(printable(seen)).to.equal(seen);
      expect(printable("a\r\n\u202e\\")).to.equal("a\\u000d\\u000a\\u202e\\\\");
      expect(printable("x".repeat(256))).to.equal("x".repeat(256));
      expect(printable("x".repeat(257))).to.equal(`${"x".repeat(255)}…`);
      expect(printable("😀".repeat(1_000_000)).length).to.be.at.most(256);
    });

    it("[D26] only the named fields get in: a token that is handed over with an entry does not", async () => {
      const { records, log, audit } = kept();
      const secret = "eyJhbGciOiJIUzI1NiJ9.e30.c2lnbmF0dXJl";
      const careless = { event: "connect", ip: "::1", token: secret, headers: { authorization: secret } };
      audit.note({
        ...careless,
        filters: { agent_ids: [], project_ids: [], event_types: [], token: [secret] },
      } as unknown as AuditEntry);
      await audit.flush();
      expect(records).to.have.length(1);
      expect(JSON.stringify(records) + log.texts.join("")).not.to.include(secret);
    });

    it("[D26] a filter of 1,000 ids is cut, and says so", async () => {
      const { records, audit } = kept();
      const agent_ids = Array.from({ length: 1000 }, (_, n) => `agent-${n}`.padEnd(128, "x"));
      audit.note({
        event: "subscribe",
        ip: "::1",
        filters: { agent_ids, project_ids: ["p1"], event_types: [] },
      });
      await audit.flush();
      const { agent_ids: shown, ...others } = JSON.parse(records[0]?.detail ?? "");
      expect(shown).to.deep.equal([...agent_ids.slice(0, 8), "… 992 more"]);
      expect(others).to.deep.equal({ project_ids: ["p1"], event_types: [] });
    });

    it("[D26] what is no entry at all is an error in the log, and no exception", () => {
      const { log, audit } = kept();
      audit.note({ event: "connect", ip: 7 } as unknown as AuditEntry);
      audit.note(undefined as unknown as AuditEntry);
      expect(log.said("audit entry could not be taken")).to.have.length(2);
    });
  });
});
