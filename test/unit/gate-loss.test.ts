import { AGENTS_NAMESPACE, events, type PayloadOf, stamp, terminalNamespace } from "@agentwire/shared";
import { expect } from "chai";
import fc from "fast-check";
import { Frame } from "../../server/src/gate/frame.js";
import { addTo, type Loss, lossOf, type Reason } from "../../server/src/gate/loss.js";
import { bytesFrame, logFrame, type Notice, noticeIn, numberOf, stateFrame } from "../harness/gate.js";

const told = (losses: Loss[]): Notice[] => losses.map((loss) => noticeIn(loss.notice()) as Notice);

/** What is told of these, each dropped for its reason, one after the other. */
function noticesOf(...dropped: [Frame, Reason][]): Notice[] {
  const losses: Loss[] = [];
  for (const [frame, reason] of dropped) addTo(losses, frame, reason);
  return told(losses);
}

describe("loss", () => {
  it("[D21] status changes of one reason are one notice, with their range by number, and come again", () => {
    const loss = lossOf(logFrame(10), "rate_limit");
    for (const n of [9, 100, 11]) expect(loss.add(logFrame(n), "rate_limit")).to.equal(true);
    const { namespace, envelope, delivery } = loss.notice();
    expect({ count: loss.count, namespace, delivery, type: envelope.event_type }).to.deep.equal({
      count: 4,
      namespace: AGENTS_NAMESPACE,
      delivery: "control",
      type: "MESSAGES_DROPPED",
    });
    expect(envelope.payload).to.deep.equal({
      event_type: "AGENT_STATUS_CHANGED",
      count: 4,
      reason: "rate_limit",
      from_sequence_id: "9-0",
      to_sequence_id: "100-0",
      recoverable: true,
    });
  });

  it("[D21] states have no range, and do not come again", () => {
    const loss = lossOf(stateFrame("t1", 1), "backpressure");
    expect(loss.add(stateFrame("t2", 7), "backpressure")).to.equal(true);
    expect(loss.notice().envelope.payload).to.deep.equal({
      event_type: "PROGRESS_UPDATE",
      count: 2,
      reason: "backpressure",
      recoverable: false,
    });
  });

  it("[D21] output is told as its bytes, in the namespace of its task", () => {
    const loss = lossOf(bytesFrame("t1", 100, 20), "expired");
    expect(loss.add(bytesFrame("t1", 120, 4096), "expired")).to.equal(true);
    const { namespace, delivery, envelope } = loss.notice();
    expect({ namespace, delivery, type: envelope.event_type }).to.deep.equal({
      namespace: terminalNamespace("t1"),
      delivery: "control",
      type: "BYTES_DROPPED",
    });
    expect(envelope.payload).to.deep.equal({ task_id: "t1", from: 100, to: 4216, reason: "expired" });
  });

  it("[D21] what has another reason, type, namespace or task is another notice, and changes nothing", () => {
    const log = lossOf(logFrame(1), "rate_limit");
    const elsewhere = new Frame("/ws/elsewhere", logFrame(2).envelope);
    for (const [frame, reason] of [
      [logFrame(2), "expired"],
      [stateFrame("t1", 1), "rate_limit"],
      [bytesFrame("t1", 0, 1), "rate_limit"],
      [elsewhere, "rate_limit"],
    ] as const)
      expect(log.add(frame, reason)).to.equal(false);
    expect(told([log])).to.deep.equal(noticesOf([logFrame(1), "rate_limit"]));

    const bytes = lossOf(bytesFrame("t1", 0, 10), "expired");
    expect(bytes.add(bytesFrame("t2", 10, 10), "expired")).to.equal(false);
    const payload = { ...(bytesFrame("t2", 10, 1).envelope.payload as PayloadOf<"TERMINAL_OUTPUT">) };
    const shared = new Frame(terminalNamespace("t1"), stamp("TERMINAL_OUTPUT", "b", payload));
    expect(bytes.add(shared, "expired"), "another task of the same namespace").to.equal(false);
    expect(bytes.count).to.equal(1);
  });

  it("[D21] output with a hole in it, or that goes back, is two notices", () => {
    expect(
      noticesOf(
        [bytesFrame("t1", 0, 10), "expired"],
        [bytesFrame("t1", 11, 10), "expired"],
        [bytesFrame("t1", 21, 10), "expired"],
        [bytesFrame("t1", 5, 6), "expired"],
      ),
    ).to.deep.equal([
      { of: "bytes", task_id: "t1", from: 0, to: 10, reason: "expired" },
      { of: "bytes", task_id: "t1", from: 11, to: 31, reason: "expired" },
      { of: "bytes", task_id: "t1", from: 5, to: 11, reason: "expired" },
    ]);
  });

  it("[D21] what belongs together is one notice, also when others were dropped between", () => {
    expect(
      noticesOf(
        [logFrame(1), "rate_limit"],
        [bytesFrame("t1", 0, 10), "rate_limit"],
        [bytesFrame("t2", 0, 5), "rate_limit"],
        [logFrame(2), "expired"],
        [bytesFrame("t1", 10, 10), "rate_limit"],
        [logFrame(3), "rate_limit"],
      ),
    ).to.deep.equal([
      {
        of: "messages",
        event_type: "AGENT_STATUS_CHANGED",
        count: 2,
        reason: "rate_limit",
        from: "1-0",
        to: "3-0",
      },
      { of: "bytes", task_id: "t1", from: 0, to: 20, reason: "rate_limit" },
      { of: "bytes", task_id: "t2", from: 0, to: 5, reason: "rate_limit" },
      {
        of: "messages",
        event_type: "AGENT_STATUS_CHANGED",
        count: 1,
        reason: "expired",
        from: "2-0",
        to: "2-0",
      },
    ]);
  });

  const task = fc.constantFrom("t1", "t2");
  const drop = fc.record({
    frame: fc.oneof(
      fc.record({ log: fc.integer({ min: 1, max: 2000 }) }),
      fc.record({ state: task }),
      // Some of it was sent, and is no part of what is missing.
      fc.record({ bytes: task, sentBefore: fc.nat({ max: 2 }), length: fc.integer({ min: 1, max: 9 }) }),
    ),
    reason: fc.constantFrom<Reason[]>("backpressure", "rate_limit", "expired"),
  });

  it("[D21] notices count each message once: by type and reason, ranges that fit, bytes to the byte", () => {
    fc.assert(
      fc.property(fc.array(drop, { maxLength: 60 }), (drops) => {
        const losses: Loss[] = [];
        const ends = new Map<string, number>();
        const missing = new Map<string, Reason>();
        const counts: Record<string, number[]> = {};
        for (const { frame: what, reason } of drops) {
          if ("bytes" in what) {
            const from = (ends.get(what.bytes) ?? 0) + what.sentBefore;
            const to = from + what.length;
            ends.set(what.bytes, to);
            for (let at = from; at < to; at++) missing.set(`${what.bytes} ${at}`, reason);
            addTo(losses, bytesFrame(what.bytes, from, what.length), reason);
            continue;
          }
          const frame = "log" in what ? logFrame(what.log) : stateFrame(what.state, 1);
          const kind = `${frame.envelope.event_type} ${reason}`;
          counts[kind] = [...(counts[kind] ?? []), "log" in what ? what.log : 0];
          addTo(losses, frame, reason);
        }

        expect(losses.reduce((sum, { count }) => sum + count, 0)).to.equal(drops.length);
        for (const loss of losses) {
          const { event_type, payload } = loss.notice().envelope;
          expect(events[event_type].payload.safeParse(payload).success, "as the map says").to.equal(true);
        }
        const has = new Map<string, Reason>();
        for (const notice of told(losses)) {
          if (notice.of === "messages") {
            const kind = `${notice.event_type} ${notice.reason}`;
            const numbers = counts[kind] ?? [];
            expect(notice.count).to.equal(numbers.length);
            delete counts[kind];
            if (notice.from === undefined || notice.to === undefined) continue;
            expect([numberOf(notice.from), numberOf(notice.to)]).to.deep.equal([
              Math.min(...numbers),
              Math.max(...numbers),
            ]);
          } else
            for (let at = notice.from; at < notice.to; at++) {
              expect(has.has(`${notice.task_id} ${at}`), "told twice").to.equal(false);
              has.set(`${notice.task_id} ${at}`, notice.reason as Reason);
            }
        }
        expect(counts, "not told").to.deep.equal({});
        expect(new Map([...has].sort())).to.deep.equal(new Map([...missing].sort()));
      }),
      { numRuns: 500 },
    );
  });
});
