import { createClient } from "@agentwire/client";
import { readAddress } from "./address.js";
import { createAgentsTable } from "./agents-table.js";
import { byId, element, write } from "./elements.js";
import { createEventList } from "./event-list.js";
import { onFrame } from "./frames.js";
import { createTasksList } from "./tasks-list.js";
import { replayInWords, stateInWords } from "./words.js";

// The token and the nodes stand in the fragment: another fragment is another page.
addEventListener("hashchange", () => location.reload());

const { token, nodes } = readAddress(location);
if (token) watch(token, nodes);
else askForToken();

function askForToken() {
  const notice = byId("notice");
  notice.textContent =
    "This address has no token. Run npm start: it prints the address to open, with a token for this page at its end.";
  notice.hidden = false;
  showState("closed", "not connected: there is no token");
}

function watch(token, nodes) {
  const client = createClient({ urls: nodes, token });
  const table = createAgentsTable();
  const events = createEventList();
  const tasks = createTasksList(client.progress);
  const nodeItems = nodes.map((url) => element("li", { "data-url": url, text: new URL(url).host }));
  byId("nodes").replaceChildren(...nodeItems);

  const onState = (state) => {
    showState(state.name, stateInWords(state));
    write(byId("node"), state.instanceId ?? "–");
    for (const item of nodeItems) item.toggleAttribute("data-current", item.dataset.url === state.url);
  };
  client.onState(onState);
  onState(client.state);

  // A thousand events in a second are painted sixty times, not a thousand.
  const paintSoon = onFrame(() => {
    table.show(client.agents.getSnapshot());
    write(byId("received"), client.counts.delivered.toLocaleString("en"));
    write(byId("repeats"), client.counts.repeats.toLocaleString("en"));
  });
  client.agents.subscribe(paintSoon);
  const paintTasks = onFrame(tasks.paint);
  client.progress.subscribe(paintTasks);
  setInterval(() => {
    table.tick();
    paintSoon();
    paintTasks();
  }, 1000);

  client.on("AGENT_STATUS_CHANGED", (envelope) => events.add(envelope));
  client.on("REPLAY_END", ({ payload }) => {
    const replay = byId("replay");
    replay.dataset.replay = payload.complete ? "complete" : "incomplete";
    write(replay, replayInWords(payload));
  });
}

function showState(name, words) {
  const state = byId("state");
  state.dataset.state = name;
  write(state, words);
}
