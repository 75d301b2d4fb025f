export const KEY_PREFIX = "ws";
/** The same in Redis Cluster: what is in braces decides the slot, so all keys lie in one. */
export const CLUSTER_KEY_PREFIX = "{ws}";

/** Whether Redis Cluster puts all keys with this prefix into one slot: the first braces, and something in them. */
export const isInOneSlot = (prefix: string): boolean => /^[^{]*\{[^}]+\}/.test(prefix);

/**
 * The only place that spells a Redis key or channel. `prefix` is `WS_KEY_PREFIX`; in Redis Cluster it is `{ws}`, so
 * that everything the scripts touch together lies in one slot.
 */
export function redisKeys(prefix: string = KEY_PREFIX, busPrefix = "events:") {
  // Named by those who were there before us; another prefix keeps another cluster apart.
  const isUsual = prefix === KEY_PREFIX || prefix === CLUSTER_KEY_PREFIX;
  const terminal = isUsual ? "terminal" : `${prefix}:terminal`;
  return {
    /** Stream: the log, and the stream of the Socket.IO streams adapter. */
    events: `${prefix}:events`,
    /** String: the last durable `sequence_id`. */
    head: `${prefix}:events:head`,
    /** String: the name of this history. Another name means: Redis came back without its data. */
    epoch: `${prefix}:epoch`,
    /** String: the replication id of the server that holds this history. */
    server: `${prefix}:epoch:server`,
    /** Hash `window_ms, max_replay`: written by the nodes, read by append.lua, so that all publishers agree. */
    settings: `${prefix}:settings`,
    /** String, expires: the `sequence_id` that an `event_id` was given. */
    eventId: (eventId: string) => `${prefix}:event:${eventId}`,
    /** Hash: an agent's last status. */
    agent: (agentId: string) => `${prefix}:agent:${agentId}`,
    /** Sorted set of agent ids, scored by the time of their last change (ms). */
    projectAgents: (projectId: string) => `${prefix}:agents:${projectId}`,
    projectAgentsPrefix: `${prefix}:agents:`,
    /** Sorted set of user ids, scored by the time (ms) until which replay entries are written for them. */
    audience: (projectId: string) => `${prefix}:audience:${projectId}`,
    /** Hash project id → `sequence_id` after which the user's replay index holds every event of that project. */
    audienceSince: (userId: string) => `${prefix}:audience:since:${userId}`,
    /** Stream: a user's index into the log, one small entry per event the user could see. */
    replay: (userId: string) => `${prefix}:replay:agent_status:${userId}`,
    replayPrefix: `${prefix}:replay:agent_status:`,
    /** Hash, TTL 24 h: one connection. */
    connection: (connectionId: string) => `${prefix}:connections:${connectionId}`,
    connectionPrefix: `${prefix}:connections:`,
    /** Sorted set of connection ids, scored by lease end (ms). */
    userConnections: (userId: string) => `${prefix}:connections:user:${userId}`,
    userConnectionsPrefix: `${prefix}:connections:user:`,
    /** Sorted set of the connection ids of all nodes, scored by lease end (ms). */
    leases: `${prefix}:leases`,
    /** Sorted set of connection ids, scored by when they came from this address (ms). */
    rateLimitIp: (address: string) => `${prefix}:ratelimit:ip:${address}`,
    /** Number, expires: connections of this address that a node ended, and that may come back beyond the limit. */
    owedIp: (address: string) => `${prefix}:ratelimit:ip:owed:${address}`,
    /** Hash: what a stock client's `pid` resumes. */
    session: (pid: string) => `${prefix}:session:${pid}`,
    /** Hash, TTL 60 s: one node. */
    instance: (instanceId: string) => `${prefix}:instances:${instanceId}`,
    instancePrefix: `${prefix}:instances:`,
    /** Set of the ids of all nodes. */
    instances: `${prefix}:instances`,
    /** Pattern of all keys of connections and of nodes. */
    registry: `${prefix}:[ci]*:*`,
    /** String, TTL 15 s: `active`, `draining` or `shutdown`. */
    instanceState: (instanceId: string) => `${prefix}:instances:${instanceId}:state`,
    /** String, expires: the node that takes foreign bus messages in. */
    busLease: `${prefix}:bus:lease`,
    /** Hash, expires: how much of the cluster's limit of messages per second each node has. */
    rateLimitGlobal: `${prefix}:ratelimit:global`,
    /** Stream, bounded: who came in, was refused, left, subscribed or lost a right. */
    audit: `${prefix}:audit`,
    /** Channel: `{user_id}` whose rights have changed. */
    accessChanged: `${prefix}:access:changed`,
    /** Channel of one project: `ProgressMessage`s, only for nodes on which somebody watches it. */
    progress: (projectId: string) => `${prefix}:progress:${projectId}`,
    /** Channel: reports of workers that publish over HTTP, for the node that takes them in. */
    progressReports: `${prefix}:progress:reports`,
    /** Channel: `{project_id}`, asked by a node that begins to watch it: who has running tasks there says them again. */
    progressAsked: `${prefix}:progress:asked`,
    /** String, expires: the project of a task. */
    task: (taskId: string) => `${prefix}:task:${taskId}`,
    /**
     * Hash `project_id, agent_id, attempt`, and once it has ended `ended` ("1"), `offset`, `exit_code?`, `reason?`: a
     * terminal. It expires 15 s after its worker was last heard of, and 5 minutes after its end.
     */
    terminal: (taskId: string) => `${prefix}:terminal:${taskId}`,
    /** String, expires 15 s after a node last said that somebody watches this terminal. */
    terminalWatched: (taskId: string) => `${prefix}:terminal:watched:${taskId}`,
    /** Channels of one terminal: what it writes, what its worker is told, and one answer about what it wrote before. */
    terminalOutput: (taskId: string) => `${terminal}:output:${taskId}`,
    terminalControl: (taskId: string) => `${terminal}:control:${taskId}`,
    terminalTail: (request: string) => `${prefix}:terminal:tail:${request}`,
    /** Channel: places for connections, between nodes. */
    slotNotices: `${prefix}:slots`,
    /** Stream of the operators' namespace, bounded, and what its adapter puts before its channels. */
    adminEvents: `${prefix}:admin:events`,
    /** String, expires: a session of the admin UI. */
    adminSessionPrefix: `${prefix}:admin:session:`,
    /** Sorted set of recent logins to the admin UI from this address. */
    rateLimitAdmin: (address: string) => `${prefix}:ratelimit:admin:${address}`,
    /** What the streams adapter puts before its own request and response channels. */
    adapterChannel: `${prefix}:adapter`,
    /** Channel of the event bus, both ways. */
    bus: (eventType: string) => `${busPrefix}${eventType}`,
  } as const;
}

export type RedisKeys = ReturnType<typeof redisKeys>;
