import { once } from "node:events";
import type { EmitterOptions, Terminal } from "@agentwire/emitter";
import { limits } from "@agentwire/shared";
import {
  decodeTerminal,
  type TailEnd,
  type TerminalEnd,
  type TerminalMessage,
  type TerminalOutput,
} from "@agentwire/shared/redis";
import { sharedEmitters, subject } from "./emitters.js";
import { onTeardown } from "./teardown.js";
import { until } from "./wait.js";

export const KB = 1024;

export const isOutput = (message: TerminalMessage): message is TerminalOutput => "data" in message;

/** The bytes of one stream, in their order, each once; throws where one is missing. */
export function bytesOf(messages: TerminalMessage[], stream?: "stdout" | "stderr"): Buffer {
  const pieces: Uint8Array[] = [];
  const outputs = messages.filter(isOutput).sort((a, b) => a.offset - b.offset);
  let at = outputs[0]?.offset ?? 0;
  for (const { stream: its, offset, data } of outputs) {
    if (offset > at) throw new Error(`${at} to ${offset} is missing`);
    const fresh = data.subarray(Math.min(at - offset, data.length));
    if (stream === undefined || its === stream) pieces.push(fresh);
    at += fresh.length;
  }
  return Buffer.concat(pieces);
}

/** The offset behind the newest output. */
export function endOf(outputs: TerminalOutput[]): number {
  const newest = outputs.at(-1);
  return newest ? newest.offset + newest.data.length : 0;
}

export async function write(terminal: Terminal, stream: "stdout" | "stderr", data: Uint8Array | string) {
  if (!terminal[stream].write(data)) await once(terminal[stream], "drain");
}

/** Terminals that emitters publish on a Redis of the surrounding `describe`, and who watches them there. */
export function publishedTerminals() {
  const emitters = sharedEmitters();
  const { server, redis, keys, emitterOf } = emitters;
  let task = 0;

  /** What a node does for its viewers. */
  async function watchLike(taskId: string) {
    const subscriber = server().client();
    onTeardown(() => subscriber.disconnect());
    const heard: TerminalMessage[] = [];
    const tails = new Map<string, TerminalMessage[]>();
    subscriber.on("messageBuffer", (channel: Buffer, bytes: Buffer) => {
      const message = decodeTerminal(bytes) as TerminalMessage;
      (tails.get(channel.toString()) ?? heard).push(message);
    });
    await subscriber.subscribe(keys.terminalOutput(taskId));
    const say = (control: object) => redis().publish(keys.terminalControl(taskId), JSON.stringify(control));
    let requests = 0;
    return {
      heard,
      outputs: () => heard.filter(isOutput),
      ended: () => heard.find((message): message is TerminalEnd => "end" in message),
      say,
      watch: () => say({ type: "watch" }),
      announce: () => redis().set(keys.terminalWatched(taskId), "1", "PX", limits.terminalLeaseMs),
      async tail(from?: number) {
        const request = `request-${++requests}`;
        const channel = keys.terminalTail(request);
        const messages: TerminalMessage[] = [];
        tails.set(channel, messages);
        await subscriber.subscribe(channel);
        await say({ type: "tail", request, from });
        const end = await until("the end of the tail", () =>
          messages.find((message): message is TailEnd => "tail_end" in message),
        );
        await subscriber.unsubscribe(channel);
        return { outputs: messages.filter(isOutput), last: messages.at(-1), end };
      },
      /** Everything that was published before this has been heard after it. */
      async settled() {
        await redis().ping();
        await subscriber.ping();
      },
    };
  }

  const listens = (taskId: string) =>
    until("the terminal listens", async () => {
      const [, count] = (await redis().pubsub("NUMSUB", keys.terminalControl(taskId))) as [string, number];
      return Number(count) > 0;
    });

  /** A terminal of a task of its own that somebody watches. */
  async function watched(options: Partial<EmitterOptions> = {}) {
    const task_id = `watched-${++task}`;
    const node = await watchLike(task_id);
    await node.announce();
    const emitter = emitterOf(options);
    const terminal = emitter.task({ ...subject, task_id }).terminal();
    await listens(task_id);
    await node.watch();
    return { node, terminal, emitter, task_id };
  }

  /** The terminal of the task `unwatched`, and a node that has not said that it watches. */
  async function unwatched() {
    const node = await watchLike("unwatched");
    const emitter = emitterOf();
    const terminal = emitter.task({ ...subject, task_id: "unwatched" }).terminal();
    await listens("unwatched");
    await until("the record", () => redis().exists(keys.terminal("unwatched")));
    return { node, terminal, emitter };
  }

  return { ...emitters, watchLike, listens, watched, unwatched };
}
