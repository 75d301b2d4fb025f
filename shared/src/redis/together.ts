interface Client {
  status: string;
  stream: { remoteAddress?: string | undefined; remotePort?: number | undefined } | object;
  on(event: "ready", listener: () => void): unknown;
  disconnect(reconnect?: boolean): void;
}

/**
 * When `leader` is led to another server, so are these. A primary that was cut off answers on: who only listens does not
 * notice, and hears nothing of what is said on the new one.
 */
export function keepTogether(leader: Client, others: () => Iterable<Client>): void {
  leader.on("ready", () => {
    const place = placeOf(leader);
    for (const other of others()) {
      if (other.status === "ready" && placeOf(other) !== place) other.disconnect(true);
    }
  });
}

function placeOf({ stream }: Client): string {
  return "remotePort" in stream ? `${stream.remoteAddress} ${stream.remotePort}` : "";
}
