import type { SequenceId } from "@agentwire/shared";
import { expect } from "chai";
import type { Cluster } from "./cluster.js";
import { Ledger, quickest } from "./ledger.js";
import { onTeardown } from "./teardown.js";
import { Viewer, type ViewerOptions } from "./viewer.js";
import { until } from "./wait.js";

/** Between a message's place in the node's window and when this process sees it (ms): this machine does other things. */
export const JITTER_MS = 200;

/** A viewer with nothing between it and its node, whose books are kept. */
export async function watch(cluster: Cluster, { on = 1, ...options }: ViewerOptions & { on?: number } = {}) {
  const viewer = new Viewer(cluster.node(on).url, options);
  onTeardown(() => {
    viewer.socket.disconnect();
  });
  const ledger = new Ledger(viewer);
  await viewer.joined();
  return ledger;
}

/** Waits until it has everything, and no refill is under way. */
export async function settled(ledger: Ledger, ids: SequenceId[], deadlineMs = 45_000): Promise<void> {
  const due = new Set(ids);
  let looked = 0;
  const done = () => {
    for (; looked < ledger.changes.length; looked++) due.delete(ledger.changes[looked]?.id as SequenceId);
    return due.size === 0 && !ledger.replaying;
  };
  await until(`${ids.length} events, and the end of the refill`, done, deadlineMs).catch((error) => {
    const books = `${ledger.announced} announced, replays ${JSON.stringify(ledger.replays)}`;
    throw new Error(`${error.message}: ${due.size} of them are missing, ${books}`);
  });
}

/** Whatever was dropped on the way: everything came, and the books say so exactly. */
export function expectExact(ledger: Ledger, due: SequenceId[]): void {
  expect(ledger.viewer.log).to.deep.equal(due);
  expect(ledger.skipped(due)).to.equal(undefined);
  const live = new Set(ledger.live.map(({ id }) => id));
  expect(live.size + ledger.announced, "delivered and announced").to.equal(due.length);
  expect(ledger.drops.every(({ recoverable }) => recoverable)).to.equal(true);
  expect(ledger.outsideOfRanges(due), "announced without its range").to.deep.equal([]);
  expect(ledger.replays.every(({ complete }) => complete)).to.equal(true);
  expect(ledger.miscounts).to.deep.equal([]);
  const seen = new Set<SequenceId>();
  const twice = ledger.changes.filter(({ id }) => seen.size === seen.add(id).size);
  expect(
    twice.filter(({ urgent }) => !urgent),
    "only what overtook others comes again, in its place",
  ).to.deep.equal([]);
}

export const timesOf = (ledger: Ledger): number[] =>
  ledger.changes.filter(({ urgent }) => !urgent).map(({ at }) => at);

/** In no second, and in no three, did more come than the limit, as far as that can be seen from here. */
export function expectWithin(limit: number, times: number[], stalledMs: number): void {
  for (const seconds of [1, 3]) {
    const many = seconds * limit;
    const took = quickest(times, many + 1);
    expect(took, `ms for ${many + 1} messages`).to.be.at.least(1000 * seconds - JITTER_MS - stalledMs);
  }
}
