import { compareSequence } from "@agentwire/shared";
import { expect } from "chai";
import { sharedCluster, startCluster, UNLIMITED } from "../harness/cluster.js";
import { startLoad } from "../harness/load.js";

describe("coming in while events flow", () => {
  const cluster = sharedCluster({ nodes: 2, settings: UNLIMITED });

  for (const transports of [["polling", "websocket"], ["polling"], ["websocket"]]) {
    it(`[D3][D5] by ${transports.join(", then ")}: everything after READY, once and in order`, async () => {
      const { viewer, worker } = cluster();
      const load = startLoad(worker(), { perSecond: 200 });
      const viewers = [];
      for (let n = 0; n < 8; n++) {
        const one = await viewer({ on: (n % 2) + 1, user: `user-${n}`, socket: { transports } });
        viewers.push(one);
        await one.sees("some events", ({ raw }) => raw.length > 20);
      }
      const published = (await load.stop()).map(({ sequence_id }) => sequence_id).sort(compareSequence);
      for (const one of viewers) {
        const from = one.payloads("READY")[0]?.sequence_id as string;
        const due = published.filter((id) => compareSequence(id, from) > 0);
        await one.has(due);
        expect(one.raw.map(({ sequence_id }) => sequence_id)).to.deep.equal(due);
        expect(one.connects).to.deep.equal([false]);
        const last = transports.at(-1);
        await one.sees(`it is on ${last}`, ({ socket }) => socket.io.engine.transport.name === last);
      }
    });
  }
});

describe("a node that comes while events flow", () => {
  it("[D17][D3] its first viewer gets everything after READY", async () => {
    const { viewer, worker, node } = await startCluster({ nodes: 2, settings: UNLIMITED });
    await node(2).kill();
    const load = startLoad(worker(), { perSecond: 200 });
    node(2).log.length = 0;
    node(2).start();
    await node(2).ready();
    const one = await viewer({ on: 2 });
    await one.sees("some events", ({ raw }) => raw.length > 50);
    const published = (await load.stop()).map(({ sequence_id }) => sequence_id).sort(compareSequence);
    const from = one.payloads("READY")[0]?.sequence_id as string;
    const due = published.filter((id) => compareSequence(id, from) > 0);
    await one.has(due);
    expect(one.raw.map(({ sequence_id }) => sequence_id)).to.deep.equal(due);
    expect(one.payloads("READY")[0]?.instance_id).to.equal("node-2");
  });
});
