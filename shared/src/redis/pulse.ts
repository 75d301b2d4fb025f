/** What an ioredis client has. */
export interface Line {
  status: string;
  /** Absent before the first connection. */
  stream?: { bytesRead?: number };
  exists(key: string): Promise<unknown>;
  ping(): Promise<unknown>;
  disconnect(reconnect?: boolean): void;
}

const TICK_MS = 250;

/**
 * Makes a client reconnect when nothing comes from its server any more: it hangs, or is gone without a word, which TCP
 * alone tells after many minutes. A subscriber would wait for ever. What is asked is about a key, because a server of a
 * Cluster that has lost our slot answers it with MOVED.
 *
 * @param silentMs counted in ticks: after a pause of this process what has come meanwhile is read first
 * @returns stops it
 */
export function keepPulse(line: Line, key: string, silentMs: number): () => void {
  const most = silentMs / TICK_MS;
  let silent = 0;
  let received = 0;
  let isAsked = false;
  const settled = () => {
    isAsked = false;
  };

  const timer = setInterval(() => {
    const before = received;
    received = line.stream?.bytesRead ?? 0;
    if (line.status !== "ready") isAsked = false;
    // `connect`: connected, and not ready yet. Until then the client's own timeouts count.
    if ((line.status !== "ready" && line.status !== "connect") || received !== before) silent = 0;
    if (silent++ >= most) {
      silent = 0;
      line.disconnect(true);
    } else if (line.status === "ready" && !isAsked) {
      isAsked = true;
      // Where a subscriber may ask for nothing else (RESP2), ioredis itself refuses.
      line
        .exists(key)
        .catch((error) => (error instanceof Error && error.name === "ReplyError" ? undefined : line.ping()))
        .then(settled, settled);
    }
  }, TICK_MS);
  timer.unref();
  return () => clearInterval(timer);
}
