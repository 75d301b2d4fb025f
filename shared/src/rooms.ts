/** The only place that spells a room's name. */
export const projectRoom = (projectId: string): string => `project:${projectId}`;
export const agentRoom = (agentId: string): string => `agent:${agentId}`;
export const taskRoom = (taskId: string): string => `task:${taskId}`;
