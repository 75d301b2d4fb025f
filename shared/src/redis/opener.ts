import type { Endpoint, RedisAddress } from "./address.js";
import { whenElsewhere } from "./elsewhere.js";
import { type ClusterMember, slotConnector } from "./slot-connector.js";

/** ioredis' `Redis`. */
interface RedisConstructor<R, O> {
  new (options: O): R;
  new (url: string, options: O): R;
}

/** How long one question to a Sentinel, or to a server of a Cluster, may take. */
const ASK_MS = 1000;

/**
 * Opens ioredis clients of this Redis, each with its own options. In a Cluster and behind Sentinels each leads to the
 * primary, and to the new one when it connects again after a failover.
 *
 * @param key any key of ours: in a Cluster all of them lie on one server, see {@link slotConnector}
 */
export function redisOpener<R extends ClusterMember, O>(
  Redis: RedisConstructor<R, O>,
  address: RedisAddress,
  key: string,
): (options: O) => R {
  const own = (options: O): O => ({ reconnectOnError: whenElsewhere(), ...options });
  if (address.kind === "url") return (options) => new Redis(address.url, own(options));

  const { username, password, tls } = address;
  const login = { username, password, ...(tls && { tls }) };
  if (address.kind === "sentinel") {
    const { sentinels, name, sentinelPassword } = address;
    const behind = {
      sentinels,
      name,
      sentinelPassword,
      sentinelCommandTimeout: ASK_MS,
      ...(tls && { enableTLSForSentinelMode: true, sentinelTLS: tls }),
    };
    return (options) => new Redis({ ...own(options), ...login, ...behind });
  }

  const { nodes, nat } = address;
  const open = (node: Endpoint): R =>
    new Redis({
      ...node,
      ...login,
      connectTimeout: ASK_MS,
      commandTimeout: ASK_MS,
      disconnectTimeout: ASK_MS,
      maxRetriesPerRequest: 0,
      enableReadyCheck: false,
      retryStrategy: null,
    } as O);
  const seeds = typeof nodes === "function" ? nodes : () => nodes;
  const Connector = slotConnector({ key, seeds, open, nat, tls });
  return (options) => new Redis({ ...own(options), ...login, Connector });
}
