import { sharedCluster } from "./cluster.js";
import { listening, TerminalWatcher } from "./terminal.js";
import { until } from "./wait.js";

/** Three nodes for all tests of the surrounding `describe`, and who watches terminals on them. */
export function terminalCluster() {
  const cluster = sharedCluster({ nodes: 3 });
  const watch = (
    task: string,
    { on = 1, ...options }: ConstructorParameters<typeof TerminalWatcher>[2] & { on?: number } = {},
  ) => new TerminalWatcher(cluster().node(on).url, task, options);
  const untilNobodyListens = (task: string) =>
    until("nobody listens", async () => (await listening(cluster().client(), cluster().keys, task)) === 0);
  return { cluster, watch, untilNobodyListens };
}
