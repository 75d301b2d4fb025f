import { type Logger, pino } from "pino";
import { leaveOutRepeats } from "./repeats.js";

export type { Logger } from "pino";

/** JSON lines on stdout. */
export function createLogger(level: string, instanceId: string): Logger {
  return pino({
    level,
    base: { instance_id: instanceId },
    timestamp: pino.stdTimeFunctions.isoTime,
    hooks: { logMethod: leaveOutRepeats() },
  });
}

/** Says that the node is ready, whatever the level: whoever started the node waits for this line. */
export function announceListening(logger: Logger, ports: { port: number; admin_port: number }): void {
  logger.child({}, { level: "info" }).info(ports, "listening");
}
