import { randomUUID } from "node:crypto";
import { setTimeout as pause } from "node:timers/promises";
import type { Emitter } from "@agentwire/emitter";
import type { SequenceId, StatusChange } from "@agentwire/shared";
import type { Cluster } from "./cluster.js";
import { knock } from "./knock.js";
import { onTeardown } from "./teardown.js";
import { token } from "./token.js";

/** One publish or handshake: what was asked, what came of it, and how long that took. */
export interface Asked {
  way: "emitter" | "http" | "handshake";
  event_id: string;
  /** `ok`, or the code of the error. */
  outcome: string;
  /** What the error says. */
  message: string;
  status?: number;
  ms: number;
}

const change = (n: number, way: string) => ({
  agent_id: `${way}-${n % 10}`,
  project_id: "p1",
  // None is CRITICAL: what comes early would come again in its place.
  new_status: (n % 2 === 0 ? "working" : "idle") as StatusChange["new_status"],
});

/**
 * What a cluster has to do while its Redis fails: workers publish at a steady rate, services over HTTP, people knock
 * at the door. Nothing waits for what was asked before. Keeps the books of all of it.
 */
export function startTraffic(cluster: Cluster, emitter: Emitter, { perSecond = 100, knocks = true } = {}) {
  const all: Asked[] = [];
  const confirmed = new Map<string, SequenceId>();
  const running = new Set<Promise<void>>();
  let on = true;
  onTeardown(() => {
    on = false;
  });

  const note = (way: Asked["way"], event_id: string, ask: () => Promise<Partial<Asked>>): void => {
    const began = performance.now();
    const one = ask()
      .catch((error) => ({ outcome: String(error.code ?? error), message: String(error.message) }))
      .then((answer: Partial<Asked>) => {
        const ms = performance.now() - began;
        all.push({ way, event_id, outcome: "ok", message: "", ...answer, ms });
        running.delete(one);
      });
    running.add(one);
  };

  const viaEmitter = (n: number) => {
    const event_id = randomUUID();
    note("emitter", event_id, async () => {
      const { sequence_id } = await emitter.agentStatus({ ...change(n, "emitter"), event_id });
      confirmed.set(event_id, sequence_id);
      return {};
    });
  };
  const viaHttp = (n: number) => {
    const event_id = randomUUID();
    const { new_status, ...ids } = change(n, "http");
    const body = { event_type: "AGENT_STATUS_CHANGED", ...ids, event_id, payload: { new_status } };
    note("http", event_id, async () => {
      const answer = await cluster.post(body, { to: (n % cluster.nodes.length) + 1 });
      const said = (await answer.json()) as {
        sequence_id?: string;
        error?: { code: string; message: string };
      };
      if (said.sequence_id) confirmed.set(event_id, said.sequence_id as SequenceId);
      const { code = "ok", message = "" } = said.error ?? {};
      return { outcome: code, message, status: answer.status };
    });
  };
  const atTheDoor = (n: number) => {
    const node = cluster.node((n % cluster.nodes.length) + 1);
    const query = new URLSearchParams({ EIO: "4", transport: "polling", token: token("visitor", ["p1"]) });
    note("handshake", "", async () => {
      const { status, body } = await knock(`${node.url}/socket.io/?${query}`);
      const { code = "ok", message = "" } = body.startsWith("{") ? JSON.parse(body).error : {};
      return { outcome: code, message, status };
    });
  };

  const loop = (async () => {
    const began = performance.now();
    for (let n = 0; on; n++) {
      const due = began + (n * 1000) / perSecond - performance.now();
      if (due > 0) await pause(due);
      viaEmitter(n);
      if (n % 5 === 0) viaHttp(n / 5);
      if (knocks && n % 20 === 0) atTheDoor(n / 20);
    }
  })();

  return {
    all,
    /** Of what was published, the `sequence_id` of each `event_id` that was confirmed. */
    confirmed,
    /** What was answered so and not otherwise, of one way or of all. */
    refused: (way?: Asked["way"]) =>
      all.filter((one) => one.outcome !== "ok" && (way === undefined || one.way === way)),
    served: (way: Asked["way"]) => all.filter((one) => one.outcome === "ok" && one.way === way),
    /** What has no answer yet. */
    open: () => running.size,
    async stop(): Promise<void> {
      on = false;
      await loop;
      await Promise.all(running);
    },
  };
}

export type Traffic = ReturnType<typeof startTraffic>;
