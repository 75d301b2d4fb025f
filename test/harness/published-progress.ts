import type { ProgressMessage } from "@agentwire/shared/redis";
import { sharedEmitters, subject } from "./emitters.js";
import { onTeardown } from "./teardown.js";
import { until } from "./wait.js";

export const steps = (current_step: number, total_steps = 100) => ({ current_step, total_steps });

/** Progress that emitters publish on a Redis of the surrounding `describe`, and who hears it there and asks for it. */
export function publishedProgress() {
  const emitters = sharedEmitters();
  const { server, redis, keys } = emitters;

  /** What is heard on channels, in order; it comes back after an outage as a node does. */
  async function hear(...channels: string[]) {
    const subscriber = server().client();
    const heard: { channel: string; text: string }[] = [];
    subscriber.on("message", (channel, text) => heard.push({ channel, text }));
    await subscriber.subscribe(...channels);
    onTeardown(() => subscriber.disconnect());
    const messages = (): ProgressMessage[] =>
      heard.filter(({ channel }) => !channel.startsWith("events:")).map(({ text }) => JSON.parse(text));
    const updates = () => [
      ...new Map(messages().map((message) => [message.envelope.event_id, message])).values(),
    ];
    return {
      heard,
      messages,
      /** Each once: when the emitter begins to listen it says again what runs. */
      updates,
      payloads: () => updates().map(({ envelope }) => envelope.payload),
      clear: () => heard.splice(0),
      /** Everything that was published before this has been heard after it. */
      async settled() {
        await redis().ping();
        await subscriber.ping();
      },
    };
  }

  const ask = (project_id = subject.project_id) =>
    redis().publish(keys.progressAsked, JSON.stringify({ project_id }));
  const asking = () =>
    until("the emitter listens", async () => {
      const [, count] = (await redis().pubsub("NUMSUB", keys.progressAsked)) as [string, number];
      return Number(count) > 0;
    });

  return { ...emitters, hear, ask, asking };
}
