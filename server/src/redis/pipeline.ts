import type { ChainableCommander } from "ioredis";

/**
 * Runs a pipeline and hands back its replies.
 * @throws the first error among the replies: half of an answer is no answer
 */
export async function replies(pipeline: ChainableCommander): Promise<unknown[]> {
  const results = (await pipeline.exec().catch(throwCause)) ?? [];
  return results.map(([error, reply]) => {
    if (error) throw error;
    return reply;
  });
}

/** A transaction that Redis did not begin says only that there were errors; they say why. */
function throwCause(error: Error & { previousErrors?: Error[] }): never {
  throw error.previousErrors?.[0] ?? error;
}
