/**
 * Reads `#token=…&nodes=http://a,http://b`. The fragment, because it is never sent to a server or written to its logs.
 *
 * @returns {{ token: string | null, nodes: string[] }}
 */
export function readAddress({ hash, origin }) {
  const fragment = new URLSearchParams(hash.slice(1));
  const nodes = (fragment.get("nodes") ?? "").split(",").filter((url) => URL.canParse(url));
  return { token: fragment.get("token"), nodes: nodes.length > 0 ? nodes : [origin] };
}
