import { z } from "zod";
import { Id } from "./ids.js";
import { limits } from "./limits.js";
import { statuses } from "./status.js";

/** Accepted in `event_types`: two event names, their short forms, and each status in capitals. */
const eventTypes: Record<string, { event: string; status?: string }> = {
  AGENT_STATUS_CHANGED: { event: "AGENT_STATUS_CHANGED" },
  STATUS_CHANGED: { event: "AGENT_STATUS_CHANGED" },
  PROGRESS_UPDATE: { event: "PROGRESS_UPDATE" },
  PROGRESS: { event: "PROGRESS_UPDATE" },
  ...Object.fromEntries(
    statuses.map((status) => [status.toUpperCase(), { event: "AGENT_STATUS_CHANGED", status }]),
  ),
};

const EventTypeFilter = z
  .string()
  .refine((name) => Object.hasOwn(eventTypes, name), `must be one of ${Object.keys(eventTypes).join(", ")}`);

const unique = (values: string[]): string[] => [...new Set(values)];

type FiltersSchema = ReturnType<typeof makeSchema>;
/** To make one costs more than to use it a hundred times. */
const schemas = new Map<number, FiltersSchema>();

/**
 * What a connection wants to hear. An event passes when it matches every filter given; ids within one filter are
 * alternatives. A filter that is absent, or empty, lets everything pass.
 */
export function filtersSchema(maxIds: number = limits.filterIds): FiltersSchema {
  const known = schemas.get(maxIds);
  if (known) return known;
  const made = makeSchema(maxIds);
  schemas.set(maxIds, made);
  return made;
}

function makeSchema(maxIds: number) {
  const list = <T extends z.ZodType<string>>(item: T) =>
    z.array(item).max(maxIds, `at most ${maxIds} entries`).transform(unique).optional();
  return z
    .strictObject({ agent_ids: list(Id), project_ids: list(Id), event_types: list(EventTypeFilter) })
    .transform(
      ({ agent_ids = [], project_ids = [], event_types = [] }): Filters => ({
        agent_ids,
        project_ids,
        event_types,
      }),
    );
}

export interface Filters {
  agent_ids: string[];
  project_ids: string[];
  event_types: string[];
}

/** What a filter looks at: of a live event, or of an entry in a user's replay index. */
export interface Filterable {
  event_type: string;
  agent_id: string;
  project_id: string;
  new_status?: string;
}

/** What filters look at in an event of an agent. */
export function filterable({ event_type, payload }: { event_type: string; payload: object }): Filterable {
  return { event_type, agent_id: "", project_id: "", ...payload };
}

/** Whether these let progress pass, of some task. */
export function progressPasses({ event_types }: Filters): boolean {
  return (
    event_types.length === 0 || event_types.some((name) => eventTypes[name]?.event === "PROGRESS_UPDATE")
  );
}

export function matches(filters: Filters, event: Filterable): boolean {
  const { agent_ids, project_ids, event_types } = filters;
  if (agent_ids.length > 0 && !agent_ids.includes(event.agent_id)) return false;
  if (project_ids.length > 0 && !project_ids.includes(event.project_id)) return false;
  if (event_types.length === 0) return true;
  return event_types.some((name) => {
    const wanted = eventTypes[name];
    return wanted?.event === event.event_type && (!wanted.status || wanted.status === event.new_status);
  });
}
