/** What an ioredis client has. */
export interface Line {
  status: string;
  exists(key: string): Promise<unknown>;
  disconnect(reconnect?: boolean): void;
}

const TICK_MS = 250;

/**
 * Makes a client reconnect when its server is silent: hangs, or is gone without a word, which TCP alone tells after
 * many minutes. A subscriber would wait for ever. The question is for a key, because a server of a Cluster that has lost
 * our slot answers it with MOVED.
 *
 * @param silentMs counted in ticks: after a pause of this process what was answered meanwhile comes first
 * @returns stops it
 */
export function keepPulse(line: Line, key: string, silentMs: number): () => void {
  const most = silentMs / TICK_MS;
  let silent = 0;
  let question: object | undefined;

  const ask = (): void => {
    const asked = {};
    question = asked;
    const settled = (isAnswered: boolean): void => {
      if (question !== asked) return;
      question = undefined;
      if (isAnswered) silent = 0;
    };
    line.exists(key).then(
      () => settled(true),
      (error) => settled(error instanceof Error && error.name === "ReplyError"),
    );
  };

  const timer = setInterval(() => {
    // `connect`: connected, and not answered yet. Until then the client's own timeouts count.
    if (line.status !== "ready" && line.status !== "connect") {
      silent = 0;
      question = undefined;
    } else if (silent++ >= most) {
      silent = 0;
      question = undefined;
      line.disconnect(true);
    } else if (line.status === "ready" && !question) {
      ask();
    }
  }, TICK_MS);
  timer.unref();
  return () => clearInterval(timer);
}
