export { type AgentwireClient, type ClientOptions, createClient } from "./client.js";
export type { ViewerEnvelope, ViewerEvent } from "./events.js";
export type { Handler } from "./handlers.js";
export type { TokenSource } from "./handshake.js";
export type { Unsubscribe } from "./listeners.js";
export type { ProgressNow, ProgressStore, TaskProgress } from "./progress.js";
export type { ConnectionState } from "./state.js";
export type { Agent, AgentStore } from "./store.js";
export { type Subscribed, SubscriptionRefused } from "./subscription.js";
