import { readdir, readFile } from "node:fs/promises";
import { join, relative, sep } from "node:path";
import { parseArgs, promisify } from "node:util";
import { gzip } from "node:zlib";
import { createEmitter } from "@agentwire/emitter";

/**
 * An agent that packs each file of a folder to learn how large all of them are, and says after each one how far it is.
 *
 *     REDIS_URL=… node demo-packer.mjs <folder> --agent <id> --project <id> --task <id>
 */
const id = /** @type {const} */ ({ type: "string", default: "" });
const { positionals, values } = parseArgs({
  allowPositionals: true,
  options: { agent: id, project: id, task: id },
});
const subject = { agent_id: values.agent, project_id: values.project, task_id: values.task };
const folder = positionals[0] ?? ".";
const emitter = createEmitter({ redis: process.env.REDIS_URL ?? "redis://127.0.0.1:6379" });
const task = emitter.task(subject);
const inMegabytes = (/** @type {number} */ bytes) => `${(bytes / 1e6).toFixed(1)} MB`;

async function pack() {
  const entries = await readdir(folder, { recursive: true, withFileTypes: true });
  const files = entries
    .filter((entry) => entry.isFile())
    .map(({ parentPath, name }) => relative(folder, join(parentPath, name)))
    // Caches change while they are read.
    .filter((file) => !file.startsWith("."));
  const bytes = { read: 0, packed: 0 };
  for (const [index, file] of files.entries()) {
    task.progress({
      current_step: index,
      total_steps: files.length,
      message: `packing ${file.split(sep)[0]}`,
    });
    const content = await readFile(join(folder, file));
    bytes.read += content.length;
    bytes.packed += (await promisify(gzip)(content, { level: 9 })).length;
  }
  task.progress({ current_step: files.length, total_steps: files.length, message: "packed" });
  return `${files.length} files of ${inMegabytes(bytes.read)} are ${inMegabytes(bytes.packed)} packed`;
}

try {
  await emitter.agentStatus({ ...subject, new_status: "working" });
  const message = await pack();
  await emitter.agentStatus({ ...subject, new_status: "completed", message });
} catch (error) {
  process.exitCode = 1;
  const message = error instanceof Error ? error.message : String(error);
  await emitter.agentStatus({ ...subject, new_status: "failed", message });
} finally {
  await emitter.close();
}
