import { forked } from "./forked.js";

export const startBare = forked(new URL("../bare/node.mjs", import.meta.url), (url, room) => ({
  url,
  options: { query: { room } },
  joinedAt: "open",
}));
