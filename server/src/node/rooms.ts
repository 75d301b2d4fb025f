import { agentRoom, type Filters, projectRoom } from "@agentwire/shared";

/** The rooms of a connection: those of its filters, or of all its projects where it names neither agents nor projects. */
export function roomsOf({ agent_ids, project_ids }: Filters, projects: ReadonlySet<string>): string[] {
  // With both filters the agents' rooms are enough: whatever passes both is heard there.
  if (agent_ids.length > 0) return agent_ids.map(agentRoom);
  // A right may be lost after the filter was taken.
  if (project_ids.length > 0) return project_ids.filter((id) => projects.has(id)).map(projectRoom);
  return [...projects].map(projectRoom);
}
