import type { RedisKeys } from "@agentwire/shared/redis";
import { createAdapter } from "@socket.io/redis-streams-adapter";
import type { Redis } from "ioredis";
import type { Logger } from "pino";
import type { Namespace } from "socket.io";
import type { Adapter, ClusterAdapter } from "socket.io-adapter";
import { READ_MS } from "./clients.js";
import type { RawEntry } from "./entry.js";

/** Each node says something every two seconds; nobody reads what is older than a few of those. */
const MAX_ENTRIES = 1000;

interface RawReader {
  onRawMessage(raw: RawEntry, id: string): void;
}

/**
 * The adapter of the operators' namespace: a streams adapter with a stream of its own, because what nodes tell
 * operators must not stand in the log. While Redis is away operators hear this node only.
 */
export function createAdminAdapter(
  stream: Redis,
  keys: RedisKeys,
  logger: Logger,
): (namespace: Namespace) => Adapter {
  const clustered = createAdapter(stream, {
    streamName: keys.adminEvents,
    channelPrefix: keys.adminEvents,
    blockTimeInMs: READ_MS,
    maxLen: MAX_ENTRIES,
  });

  return (namespace) => {
    const adapter = clustered(namespace) as ClusterAdapter;
    const reader = adapter as unknown as RawReader;
    const read = reader.onRawMessage.bind(adapter);
    reader.onRawMessage = (raw, id) => {
      try {
        read(raw, id);
      } catch (error) {
        // Thrown further, the adapter would read this entry again for ever.
        logger.error({ stream_id: id, err: String(error) }, "entry of the operators' stream skipped");
      }
    };
    // What waits for Redis would be old news when it comes, and as much as the outage is long.
    const away = () => stream.status !== "ready";
    const broadcast = adapter.broadcast.bind(adapter);
    adapter.broadcast = (packet, opts) => {
      const local = away() || opts.flags?.local === true;
      return broadcast(packet, { ...opts, flags: { ...opts.flags, local } });
    };
    // Socket.IO does not wait for what asks this, so a rejection would end the process.
    const serverCount = adapter.serverCount.bind(adapter);
    adapter.serverCount = async () => (away() ? 1 : serverCount().catch(() => 1));
    return adapter;
  };
}
