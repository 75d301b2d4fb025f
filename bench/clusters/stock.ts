import { AGENTS_NAMESPACE } from "@agentwire/shared";
import { forked } from "./forked.js";

export const startStock = forked(new URL("../stock/node.mjs", import.meta.url), (url, project) => ({
  url: `${url}${AGENTS_NAMESPACE}`,
  options: { auth: { project } },
  joinedAt: "connect",
}));
