import type { ChainableCommander } from "ioredis";

/**
 * Runs a pipeline and hands back its replies.
 * @throws the first error among the replies: half of an answer is no answer
 */
export async function replies(pipeline: ChainableCommander): Promise<unknown[]> {
  const results = (await pipeline.exec()) ?? [];
  return results.map(([error, reply]) => {
    if (error) throw error;
    return reply;
  });
}
