import { byId, element } from "./elements.js";

const SHOWN = 20;

/** The last changes, newest first. */
export function createEventList() {
  const list = byId("events");
  return {
    add({ sequence_id, timestamp, payload }) {
      const { agent_id, old_status, new_status, message } = payload;
      const text = new Date(timestamp).toLocaleTimeString([], { hourCycle: "h23" });
      const time = element("time", { datetime: timestamp, text });
      const what = element(
        "p",
        {},
        element("strong", { text: agent_id }),
        element("span", { class: "from", text: ` ${old_status ?? "new"} → ` }),
        element("span", { class: "status", "data-status": new_status, text: new_status }),
      );
      const entry = element("li", { "data-sequence-id": sequence_id, "data-agent-id": agent_id }, time, what);
      if (message) entry.append(element("p", { class: "message", text: message }));
      list.prepend(entry);
      while (list.children.length > SHOWN) list.lastElementChild.remove();
    },
  };
}
