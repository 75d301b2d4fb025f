import type { Cluster } from "./cluster.js";
import type { Viewer } from "./viewer.js";
import { until } from "./wait.js";

/** What a viewer was told of one task's progress, in order of arrival. */
export const percents = (viewer: Viewer, task: string) =>
  viewer
    .payloads("PROGRESS_UPDATE")
    .filter(({ task_id }) => task_id === task)
    .map(({ progress_percent }) => progress_percent);

/** So many nodes listen to a project's progress. */
export const listening = (cluster: Cluster, project: string, nodes: number) =>
  until(`${nodes} nodes listen to ${project}`, async () => {
    const [, count] = await cluster.client().pubsub("NUMSUB", cluster.keys.progress(project));
    return Number(count) === nodes;
  });
