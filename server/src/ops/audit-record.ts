import type { Code } from "@agentwire/shared";
import type { DisconnectReason } from "socket.io";
import { printable } from "./printable.js";

/** What happened at the door. There is no field that a token could be put into. */
export interface AuditEntry {
  event: "connect" | "refuse" | "disconnect" | "subscribe" | "revoke";
  ip: string;
  user?: string | undefined;
  connection?: string | undefined;
  /** Why: a code of ours, or Socket.IO's word for why a connection ended. */
  reason?: Code | DisconnectReason | undefined;
  /** The filters from now on. */
  filters?: Record<"agent_ids" | "project_ids" | "event_types", readonly string[]> | undefined;
  /** Projects that are lost. */
  projects?: readonly string[] | undefined;
}

/** The same as the fields of an entry in Redis, and for the log, whose lines have their own time. */
export interface AuditRecord {
  fields: Record<string, string>;
  line: Record<string, unknown>;
}

/** Characters of one list in a detail: the entry for a filter of 1,000 ids stays an entry. */
const MAX_LIST = 1024;

/** As many of these as fit, and how many more there were. */
function shortened(list: readonly string[]): string[] {
  const fit: string[] = [];
  let length = 0;
  for (const item of list) {
    const next = printable(item);
    length += next.length;
    if (length > MAX_LIST) return [...fit, `… ${list.length - fit.length} more`];
    fit.push(next);
  }
  return fit;
}

function detailOf({ filters, projects }: AuditEntry): Record<string, string[]> | undefined {
  if (projects) return { projects: shortened(projects) };
  if (!filters) return undefined;
  const { agent_ids, project_ids, event_types } = filters;
  return {
    agent_ids: shortened(agent_ids),
    project_ids: shortened(project_ids),
    event_types: shortened(event_types),
  };
}

const withoutEmpty = (fields: Record<string, string>): Record<string, string> =>
  Object.fromEntries(Object.entries(fields).filter(([, value]) => value !== ""));

export function recordOf(entry: AuditEntry, instance: string): AuditRecord {
  const event = printable(entry.event);
  const user = printable(entry.user ?? "");
  const ip = printable(entry.ip);
  const reason = printable(entry.reason ?? "");
  const connection = printable(entry.connection ?? "");
  const detail = detailOf(entry);
  const time = new Date().toISOString();
  return {
    fields: withoutEmpty({
      event,
      user,
      ip,
      time,
      reason,
      instance,
      connection,
      detail: detail ? JSON.stringify(detail) : "",
    }),
    line: {
      ...withoutEmpty({ event, user, ip, reason, instance, connection }),
      ...(detail && { detail }),
    },
  };
}

/** Says that so many entries before this one are in the log only. */
export function lostRecord(count: number, instance: string): AuditRecord {
  const [event, reason] = ["lost", String(count)];
  return {
    fields: { event, time: new Date().toISOString(), reason, instance },
    line: { event, reason, instance },
  };
}
