import { byId, element, write } from "./elements.js";
import { remaining } from "./words.js";

const SHOWN = 50;

/** A bar per task that runs and has said how far it is, in the order in which they were first heard of. */
export function createTasksList(progress) {
  const list = byId("tasks");
  const items = new Map();

  function createItem(taskId) {
    const percent = element("span", { class: "percent" });
    const bar = element("progress", { max: 100, value: 0, "aria-label": taskId });
    const message = element("p", { class: "message" });
    const left = element("span", { class: "left" });
    const name = element("strong", { text: taskId });
    const item = element("li", { "data-task-id": taskId }, name, percent, bar, message, left);
    return { item, percent, bar, message, left };
  }

  function fill({ percent, bar, message, left }, update, now) {
    bar.value = now.percent;
    // Rounded down: 100 % is said when it is so.
    write(percent, `${Math.floor(now.percent)} %`);
    const steps = update.total_steps === null ? "" : `${update.current_step} of ${update.total_steps}`;
    write(message, [steps, update.message].filter(Boolean).join(" · "));
    message.title = update.message;
    write(left, now.percent === 100 ? "" : remaining(now.estimated_seconds_remaining));
  }

  return {
    /** Returns whether a bar moves, or a time counts down, without any news. */
    paint(nowMs) {
      const running = progress
        .getSnapshot()
        .filter(({ ended }) => !ended)
        .map((update) => ({ update, now: progress.at(update.task_id, nowMs) }))
        .filter(({ now }) => now);
      write(byId("running"), running.length === 0 ? "" : `${running.length} running`);
      const present = running.slice(0, SHOWN);
      const ids = new Set(present.map(({ update }) => update.task_id));
      for (const [taskId, { item }] of items) {
        if (ids.has(taskId)) continue;
        item.remove();
        items.delete(taskId);
      }
      for (const { update, now } of present) {
        const known = items.get(update.task_id) ?? createItem(update.task_id);
        items.set(update.task_id, known);
        if (!known.item.isConnected) list.append(known.item);
        fill(known, update, now);
      }
      return present.some(({ now }) => !now.still);
    },
  };
}
