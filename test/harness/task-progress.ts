import { ProgressReport, type TaskProgress } from "@agentwire/shared";
import { expect } from "chai";

export const subject = { task_id: "task-1", agent_id: "agent-1", project_id: "project-1" };
export const steps = (current_step: number, total_steps = 100, attempt = 1): ProgressReport =>
  ProgressReport.parse({ ...subject, attempt, current_step, total_steps });
export const percent = (progress_percent: number, attempt = 1): ProgressReport =>
  ProgressReport.parse({ ...subject, attempt, progress_percent });

/** Takes one report and has its update leave at once. */
export function said(task: TaskProgress, report: ProgressReport, atMs: number) {
  expect(task.take(report, atMs)).to.equal(true);
  return task.update(atMs);
}
export const left = (task: TaskProgress, report: ProgressReport, atMs: number): number => {
  const { estimated_seconds_remaining } = said(task, report, atMs);
  if (estimated_seconds_remaining === null) throw new Error("there is no estimate");
  return estimated_seconds_remaining;
};
