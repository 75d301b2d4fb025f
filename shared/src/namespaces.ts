/** The namespaces of the public listener. Everything else is refused with `NAMESPACE_UNKNOWN`. */
export const AGENTS_NAMESPACE = "/ws/agents";
/** One task's terminal; a namespace per task, so that nobody gets bytes of a task that was not asked for. */
export const terminalNamespace = (taskId: string): string => `/ws/terminal/${taskId}`;
