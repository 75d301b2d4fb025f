import { AGENTS_NAMESPACE, type Envelope, stamp } from "@agentwire/shared";
import fc from "fast-check";
import { Frame } from "../../server/src/gate/frame.js";
import { controlFrame, sequenceId, weigh } from "./gate.js";

/** Whoever gets the messages may see some of these. */
export const PROJECTS = ["p1", "p2", "p3"] as const;
export type Project = (typeof PROJECTS)[number];
export const project = fc.constantFrom(...PROJECTS);
export const projects = fc.uniqueArray(project);

export const statusOf = (n: number, project_id: Project, urgent: boolean): Envelope => {
  const new_status = urgent ? ("failed" as const) : ("working" as const);
  const payload = { agent_id: `a-${project_id}`, project_id, old_status: null, new_status };
  return { ...stamp("AGENT_STATUS_CHANGED", `e-${n}`, payload), sequence_id: sequenceId(n) };
};

export const progressOf = (n: number, project_id: Project, task_id: string): Envelope =>
  stamp("PROGRESS_UPDATE", `s-${task_id}-${n}`, {
    task_id,
    agent_id: "a1",
    project_id,
    current_step: n,
    total_steps: null,
    progress_percent: 0,
    message: "",
    estimated_seconds_remaining: null,
    batched_updates: 1,
  });

export const projectOf = ({ about }: Frame) => about.project_id as Project;
export const nameOf = ({ envelope }: Frame) => envelope.event_id;

/** What is offered to a queue or an outbox. */
export const offer = fc.record({
  kind: fc.constantFrom("high" as const, "critical" as const, "state" as const, "control" as const),
  project,
  task: fc.constantFrom("t1", "t2", "t3"),
  size: fc.integer({ min: 1, max: 120 }),
  terms: fc.oneof(
    { weight: 5, arbitrary: fc.constant("live" as const) },
    { weight: 1, arbitrary: fc.constantFrom("limited" as const, "free" as const) },
  ),
});
export type Offer = typeof offer extends fc.Arbitrary<infer T> ? T : never;

export function frameOf({ kind, project, task, size }: Offer, n: number): Frame {
  if (kind === "control") return controlFrame(size);
  const envelope =
    kind === "state"
      ? progressOf(n, project, `${project}-${task}`)
      : statusOf(n, project, kind === "critical");
  return weigh(new Frame(AGENTS_NAMESPACE, envelope), size);
}
