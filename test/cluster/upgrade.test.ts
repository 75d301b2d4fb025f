import { setTimeout as pause } from "node:timers/promises";
import { compareSequence } from "@agentwire/shared";
import { expect } from "chai";
import msgpack from "socket.io-msgpack-parser";
import { startCluster, UNLIMITED } from "../harness/cluster.js";
import { idsOf, startFlood } from "../harness/flood.js";
import { Ledger } from "../harness/ledger.js";
import { onTeardown } from "../harness/teardown.js";
import { Viewer } from "../harness/viewer.js";
import { openWire } from "../harness/wire.js";

const CLIENTS = 12;
const ROUNDS = 3;
/** Pieces of data in which a WebSocket is opened and probed. */
const PROBE = 6;

const transportOf = ({ viewer }: Ledger): string | undefined => viewer.socket.io.engine?.transport?.name;

describe("an upgrade from polling to WebSocket while events flow", () => {
  for (const [what, settings, perSecond] of [
    ["no limits", UNLIMITED, 300],
    ["above the rate limit", { WS_RATE_LIMIT_PER_CONNECTION: "80", WS_SEND_BUFFER_SIZE: "20" }, 130],
    ["a queue that is always full", { ...UNLIMITED, WS_SEND_BUFFER_SIZE: "3" }, 300],
  ] as const) {
    it(`[D3][D5][D21] ${what}: nothing is lost, and nothing comes twice`, async function () {
      this.timeout(120_000);
      const cluster = await startCluster({ nodes: 1, settings });
      const worker = cluster.worker();
      for (let round = 0; round < ROUNDS; round++) {
        const flood = startFlood(worker, { perSecond });
        const byPolling: number[] = [];
        const ledgers = await Promise.all(
          Array.from({ length: CLIENTS }, async (_, n) => {
            // Each takes another time for each step of its upgrade, and polls meanwhile.
            const wire = await openWire(cluster.node(1), (line, piece) =>
              line.request.includes("transport=websocket") && piece <= PROBE
                ? pause(10 + ((n * 29 + piece * 53 + round * 17) % 110))
                : undefined,
            );
            const packed = n % 3 === 0;
            const viewer = new Viewer(wire.url, {
              user: `user-${round}-${n % 4}`,
              query: packed ? { encoding: "messagepack" } : {},
              socket: { transports: ["polling", "websocket"], ...(packed && { parser: msgpack }) },
            });
            onTeardown(() => {
              viewer.socket.disconnect();
            });
            const ledger = new Ledger(viewer);
            viewer.socket.io.on("open", () =>
              viewer.socket.io.engine.once("upgrade", () => byPolling.push(ledger.changes.length)),
            );
            return ledger;
          }),
        );
        for (const ledger of ledgers) {
          await ledger.viewer.sees("its upgrade", () => transportOf(ledger) === "websocket");
          const had = ledger.changes.length;
          await ledger.viewer.sees("events by WebSocket", () => ledger.changes.length > had + 20);
        }
        const published = idsOf(await flood.stop());
        expect(byPolling).to.have.length(CLIENTS);
        expect(Math.min(...byPolling), "events that came before the upgrade").to.be.greaterThan(0);
        for (const ledger of ledgers) {
          const { viewer } = ledger;
          const from = viewer.payloads("READY")[0]?.sequence_id as string;
          const due = published.filter((id) => compareSequence(id, from) > 0);
          await viewer.has(due);
          await viewer.sees("the end of its refill", () => !ledger.replaying);
          expect(ledger.changes.map(({ id }) => id)).to.deep.equal(due);
          expect(ledger.skipped(due)).to.equal(undefined);
          expect(ledger.replays.every(({ complete }) => complete)).to.equal(true);
          expect(ledger.live.length + ledger.announced, "delivered and announced").to.equal(due.length);
          if (settings === UNLIMITED) expect(ledger.drops).to.deep.equal([]);
          expect(viewer.connects).to.deep.equal([false]);
          viewer.socket.disconnect();
        }
      }
    });
  }
});
