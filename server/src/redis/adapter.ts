import { AGENTS_NAMESPACE, laterSequence, SEQUENCE_START, type SequenceId } from "@agentwire/shared";
import type { RedisKeys } from "@agentwire/shared/redis";
import { createAdapter } from "@socket.io/redis-streams-adapter";
import type { Redis } from "ioredis";
import type { Logger } from "pino";
import type { Namespace } from "socket.io";
import { Adapter, MessageType } from "socket.io-adapter";
import { READ_MS } from "./clients.js";
import { decodeEntry, isDurable, type LogEntry, type RawEntry } from "./entry.js";
import { gatherReads } from "./gather.js";

/** What the node hears from the stream, in the stream's order. Must not throw: the adapter would read it again. */
export interface StreamListener {
  entry(entry: LogEntry): void;
  marker(token: string): void;
}

export interface StreamAdapter {
  /** For Socket.IO's `adapter` option. */
  factory(namespace: Namespace): Adapter;
  /** The last entry of any kind that the reader handed over. */
  position(): SequenceId;
}

interface RawReader {
  onRawMessage(raw: RawEntry, id: SequenceId): void;
}

/**
 * Socket.IO's streams adapter, with durable events taken out of its hands: they go to `listener`, which delivers them
 * per connection (docs/adr/0002). Everything else the adapter carries (fetchSockets, rooms joined from another node)
 * stays as it is. Only the agents namespace is clustered.
 */
export function createStreamAdapter(
  stream: Redis,
  keys: RedisKeys,
  listener: StreamListener,
  logger: Logger,
): StreamAdapter {
  let position = SEQUENCE_START;
  gatherReads(stream);
  const clustered = createAdapter(stream, {
    streamName: keys.events,
    channelPrefix: keys.adapterChannel,
    blockTimeInMs: READ_MS,
    // The log is trimmed by age, in append.lua: what the adapter itself adds must not cut it by count.
    maxLen: Number.MAX_SAFE_INTEGER,
  });

  const take = (raw: RawEntry, id: SequenceId, original: RawReader["onRawMessage"]): void => {
    position = laterSequence(position, id);
    if (raw.marker !== undefined) return listener.marker(raw.marker);
    try {
      if (isDurable(raw)) return listener.entry(decodeEntry(id, raw));
      if (raw.type === String(MessageType.BROADCAST))
        throw new Error("a broadcast that append.lua did not write");
      original(raw, id);
    } catch (error) {
      logger.error({ stream_id: id, err: String(error) }, "stream entry skipped");
    }
  };

  return {
    position: () => position,
    // Socket.IO calls it with `new`, which an arrow or a method would refuse.
    factory: function create(namespace) {
      if (namespace.name !== AGENTS_NAMESPACE) return new Adapter(namespace);
      const adapter: Adapter = clustered(namespace);
      const reader = adapter as unknown as RawReader;
      const original = reader.onRawMessage.bind(adapter);
      reader.onRawMessage = (raw, id) => take(raw, id, original);
      return adapter;
    },
  };
}
