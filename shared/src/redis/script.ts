import { createHash } from "node:crypto";

/** The two commands a script needs; any ioredis client, single or Cluster, has them. */
export interface ScriptRunner {
  evalsha(sha: string, keyCount: number, ...keysAndArguments: (string | number)[]): Promise<unknown>;
  eval(source: string, keyCount: number, ...keysAndArguments: (string | number)[]): Promise<unknown>;
}

/** Any ioredis client, single or Cluster, has this too. */
export interface Publisher {
  publish(channel: string, message: string): Promise<unknown>;
}

export interface Script {
  source: string;
  sha: string;
}

export function script(source: string): Script {
  return { source, sha: createHash("sha1").update(source).digest("hex") };
}

/** Runs by hash, and with the source where Redis does not know the hash (a first run, a restart, a failover). */
export async function runScript(
  redis: ScriptRunner,
  { source, sha }: Script,
  keys: string[],
  args: (string | number)[],
): Promise<unknown> {
  try {
    return await redis.evalsha(sha, keys.length, ...keys, ...args);
  } catch (error) {
    if (!(error instanceof Error && error.message.startsWith("NOSCRIPT"))) throw error;
    return redis.eval(source, keys.length, ...keys, ...args);
  }
}
