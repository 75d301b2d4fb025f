import { expect } from "chai";
import { sharedCluster } from "../harness/cluster.js";
import { hashOf, listening, playWorker, someBytes, TerminalWatcher } from "../harness/terminal.js";
import { until } from "../harness/wait.js";

describe("terminals", () => {
  const cluster = sharedCluster({ nodes: 3 });
  const watch = (
    task: string,
    { on = 1, ...options }: ConstructorParameters<typeof TerminalWatcher>[2] & { on?: number } = {},
  ) => new TerminalWatcher(cluster().node(on).url, task, options);
  const untilNobodyListens = (task: string) =>
    until("nobody listens", async () => (await listening(cluster().client(), cluster().keys, task)) === 0);

  for (const viewers of [1, 10, 20])
    it(`[D29] ${viewers} viewers on three nodes, in both encodings, get each byte, in order`, async () => {
      const task = `many-${viewers}`;
      const worker = await playWorker(cluster(), task);
      const all = await Promise.all(
        Array.from({ length: viewers }, (_, n) =>
          watch(task, { on: 1 + (n % 3), encoding: n % 2 ? "messagepack" : "json", user: `u${n}` }).ready(),
        ),
      );
      const stream = someBytes(2_000_000, viewers);
      await worker.stream(stream);
      await worker.end({ exit_code: 3 });
      for (const one of all) {
        await one.sees("the end", () => one.reasons.length > 0);
        expect(hashOf(one.bytes)).to.equal(hashOf(stream));
        expect(one.account(stream)).to.equal(stream.length);
        expect(one.dropped).to.deep.equal([]);
        expect(one.received.at(-1)?.payload).to.deep.equal({ task_id: task, exit_code: 3 });
        expect(one.reasons).to.deep.equal(["io server disconnect"]);
      }
      await untilNobodyListens(task);
    });
});
