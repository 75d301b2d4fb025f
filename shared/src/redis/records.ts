import type { Envelope } from "../envelope.js";
import type { Filters } from "../filters.js";
import type { SequenceId } from "../sequence.js";

/** `ws:connections:{connection_id}`, beside `instance_id`, which the node adds. */
export interface ConnectionRecord {
  connection_id: string;
  user_id: string;
  /** ISO 8601. */
  connected_at: string;
  /** When its client last answered a ping, ISO 8601; as old as two pings at most. */
  last_heartbeat: string;
  ip: string;
  transport: string;
  encoding: string;
  filters: Filters;
  last_sequence_id: SequenceId;
}

/**
 * `ws:session:{pid}`: what a stock client's `pid` resumes, on any node. Written before the connection is made and as it
 * goes on, never only when it ends: a killed node writes nothing.
 */
export interface SessionRecord {
  user_id: string;
  epoch: string;
  /** The connection that has it now; "" when its first one has ended. */
  connection_id: string;
  /** Where it began: everything after this is due to the client. */
  began: SequenceId;
  /** The last `log` event that was written to the client, by `as_of`. */
  last_sent: SequenceId;
  /** Everything up to here was written, or was not for this client. */
  as_of: SequenceId;
  filters: Filters;
  /** The filters of the handshake. */
  asked: Filters;
}

/** How far one connection has come, for its session. */
export interface SessionProgress {
  pid: string;
  connection_id: string;
  last_sent: SequenceId;
  as_of: SequenceId;
}

/** On the channel of a project: the newest progress of one of its tasks. */
export interface ProgressMessage {
  /** Which try at the task it belongs to; a later one starts over. */
  attempt: number;
  envelope: Envelope<"PROGRESS_UPDATE">;
}
