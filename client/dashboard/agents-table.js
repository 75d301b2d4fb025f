import { byId, element, write } from "./elements.js";
import { ago } from "./words.js";

const inOrder = new Intl.Collator("en", { numeric: true });
const statuses = ["failed", "stuck", "working", "idle", "completed", "cancelled"];

/** One row per agent, kept while the agent is there, in the order of their ids: rows that move cannot be read. */
export function createAgentsTable() {
  const body = byId("agents");
  const totals = byId("totals");
  const rows = new Map();

  function createRow(agentId) {
    const cells = {
      agent: element("th", { scope: "row", text: agentId }),
      status: element("span", { class: "status" }),
      task: element("td", { "data-label": "Task" }),
      project: element("td", { "data-label": "Project" }),
      message: element("p", { class: "message" }),
      since: element("time"),
    };
    const row = element(
      "tr",
      { "data-agent-id": agentId },
      cells.agent,
      element("td", { "data-label": "Status" }, cells.status),
      cells.task,
      cells.project,
      element("td", { "data-label": "Message", class: "wide" }, cells.message),
      element("td", { "data-label": "Since", class: "since" }, cells.since),
    );
    return { row, cells };
  }

  function fill({ row, cells }, agent) {
    row.dataset.status = agent.status;
    row.dataset.sequenceId = agent.sequence_id;
    cells.status.dataset.status = agent.status;
    write(cells.status, agent.status);
    write(cells.task, agent.task_id ?? "");
    write(cells.project, agent.project_id);
    const said = [agent.progress === undefined ? "" : `${agent.progress} %`, agent.message ?? ""];
    write(cells.message, said.filter(Boolean).join(" · "));
    cells.message.title = agent.message ?? "";
    cells.since.dateTime = agent.timestamp;
    cells.since.title = new Date(agent.timestamp).toLocaleString();
    write(cells.since, ago(agent.timestamp));
  }

  function showTotals(agents) {
    const shown = statuses.flatMap((status) => {
      const count = agents.filter((agent) => agent.status === status).length;
      return count
        ? [element("li", { class: "status", "data-status": status, text: `${count} ${status}` })]
        : [];
    });
    totals.replaceChildren(...shown);
  }

  return {
    show(agents) {
      const present = new Set(agents.map(({ agent_id }) => agent_id));
      for (const [agentId, { row }] of rows) {
        if (present.has(agentId)) continue;
        row.remove();
        rows.delete(agentId);
      }
      const sorted = agents.toSorted((a, b) => inOrder.compare(a.agent_id, b.agent_id));
      sorted.forEach((agent, index) => {
        const known = rows.get(agent.agent_id) ?? createRow(agent.agent_id);
        rows.set(agent.agent_id, known);
        if (body.children[index] !== known.row) body.insertBefore(known.row, body.children[index] ?? null);
        fill(known, agent);
      });
      showTotals(agents);
      byId("nobody").hidden = agents.length > 0;
    },
    /** The times since the changes, as time passes. */
    tick() {
      for (const { cells } of rows.values()) write(cells.since, ago(cells.since.dateTime));
    },
  };
}
