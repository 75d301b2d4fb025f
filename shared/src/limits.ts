/** Numbers both sides rely on. What an operator may change is a setting of the node; these are the defaults. */
export const limits = {
  /** Characters of an agent, project, task or event id. */
  idLength: 128,
  /** Ids in one filter. */
  filterIds: 50,
  /** Characters of the free text in a status change. */
  messageLength: 16_384,
  /** Bytes of one HTTP body or one client message. */
  messageBytes: 1_048_576,
  /** Bytes of terminal output in one event. */
  chunkBytes: 4096,
  /** Connections of all nodes together, and of one user. */
  clusterConnections: 10_000,
  userConnections: 5,
  /** Connections that one address may open in any minute; of IPv6, one /64 network. */
  addressConnectionsPerMinute: 10,
  /** SUBSCRIBEs of one connection in any second. */
  subscriptionsPerSecond: 10,
  /** How deep objects and lists may be nested in what a client sends. */
  nesting: 32,
  /** Bytes that one terminal publishes in a second. */
  terminalBytesPerSecond: 1_048_576,
  /** Bytes of a terminal that its worker keeps, for viewers who come later. */
  terminalTailBytes: 262_144,
  /** Bytes that are kept for a viewer who has paused its stream. */
  pausedBytes: 1_048_576,
  /** Terminals that one connection may have open. */
  terminalsPerConnection: 20,
  /** A worker, or a node that watches, that says nothing for this long is gone. */
  terminalLeaseMs: 15_000,
  /** How long it is known how a terminal has ended. */
  terminalEndKeptMs: 300_000,
  /** How long updates of one task's progress are gathered into one. */
  progressBatchMs: 100,
  /** Tasks whose progress one process remembers. */
  progressTasks: 10_000,
  /** Messages that one connection gets in any second; CRITICAL and control come on top. */
  messagesPerSecond: 100,
  /** Messages that all connections of a cluster together get in any second. */
  clusterMessagesPerSecond: 10_000,
  /** How long a message waits for these two. */
  queueMs: 5000,
  /** Messages, and bytes, that wait for one connection. */
  queueMessages: 100,
  queueBytes: 1_048_576,
  /** How long a durable event can be replayed. */
  replayWindowMs: 300_000,
  /** How many durable events one replay sends, and how many entries a user's index keeps. */
  replayMessages: 1000,
  /** How long a repeated `event_id` is refused. */
  eventIdMemoryMs: 300_000,
  /** Publishes of one worker that may wait for Redis at once. */
  pendingPublishes: 10_000,
  /** How long Redis may take to confirm a publish before it is an error. */
  publishTimeoutMs: 1000,
  /** How long an agent that says nothing more stays in snapshots. */
  agentRetentionMs: 7 * 24 * 3_600_000,
} as const;

/** The window, and a fifth more: a reader that starts just inside the window finds its entries while it reads. */
export function keptForMs(windowMs: number): number {
  return Math.ceil(windowMs * 1.2);
}
