import { readConfig } from "./config.js";
import { openGateway } from "./gateway.js";
import { announceListening, createLogger } from "./ops/logger.js";

/** Exit codes: 0 stopped as asked, 1 could not start, 2 bad settings. */
async function main(): Promise<void> {
  let config: ReturnType<typeof readConfig>;
  try {
    config = readConfig(process.env);
  } catch (error) {
    process.stderr.write(`agentwire: ${(error as Error).message}\n`);
    process.exitCode = 2;
    return;
  }

  const logger = createLogger(config.LOG_LEVEL, config.INSTANCE_ID);
  const gateway = await openGateway(config, logger, Boolean(process.env.ADMIN_PORT));
  let stopping = false;
  const stop = async (signal: NodeJS.Signals) => {
    if (stopping) process.exit(1);
    stopping = true;
    logger.info({ signal }, "stopping");
    await gateway.stop();
    // Engine.IO waits 30 s for a polling client that does not come to be told; it is told by the closed socket.
    process.exit(0);
  };
  process.on("SIGTERM", stop).on("SIGINT", stop);

  await gateway.ready;
  if (!stopping) announceListening(logger, { port: gateway.port, admin_port: gateway.adminPort });
}

main().catch((error) => {
  process.stderr.write(`agentwire: ${error instanceof Error ? error.message : String(error)}\n`);
  process.exit(1);
});
