import { setTimeout as pause } from "node:timers/promises";
import { createEmitter } from "@agentwire/emitter";
import { AGENTS_NAMESPACE, projectRoom } from "@agentwire/shared";
import { Redis } from "ioredis";
import { answerQuestions } from "../child.js";
import { microseconds } from "../clock.js";
import type { Side } from "../clusters/cluster.js";
import { change, emitted, type Kind, project } from "./event.js";

/** Publish the events `first` to `last`, evenly, `rate` a second. */
export interface Publish {
  side: Side;
  redis: string;
  kind: Kind;
  projects: number;
  rate: number;
  first: number;
  last: number;
}
export interface Published {
  failed: number;
  /** The most that an event left after its time, because this process or its machine was busy. */
  lateMs: number;
}

type Send = (n: number) => Promise<unknown>;

const senders: Record<Side, (load: Publish) => Send> = {
  us({ redis, kind, projects }) {
    const emitter = createEmitter({ redis });
    return (n) => emitter.agentStatus(change(kind, n, projects));
  },

  /** What `io.to(room).emit()` of the streams adapter writes, with the adapter's own defaults. */
  stock({ redis, kind, projects }) {
    const client = new Redis(redis);
    return (n) => {
      const packet = { type: 2, data: emitted(kind, change(kind, n, projects)), nsp: AGENTS_NAMESPACE };
      const opts = { rooms: [projectRoom(project(n, projects))], except: [], flags: {} };
      const data = JSON.stringify({ packet, opts });
      const fields = ["uid", "emitter", "nsp", AGENTS_NAMESPACE, "type", "3", "data", data];
      return client.xadd("socket.io", "MAXLEN", "~", 10_000, "*", ...fields);
    };
  },

  /** The packet itself, ready to be sent on. */
  ws({ redis, kind, projects }) {
    const client = new Redis(redis);
    return (n) => {
      const packet = `42${AGENTS_NAMESPACE},${JSON.stringify(emitted(kind, change(kind, n, projects)))}`;
      return client.xadd("ws", "MAXLEN", "~", 10_000, "*", "room", project(n, projects), "packet", packet);
    };
  },
};

let send: Send | undefined;

/** Never waits for an answer before the next event: a slow receiver must not slow the load down. */
async function publish(load: Publish): Promise<Published> {
  const { rate, first, last } = load;
  send ??= senders[load.side](load);
  const underWay: Promise<unknown>[] = [];
  const start = microseconds();
  const dueAt = (n: number) => start + ((n - first) * 1e6) / rate;
  let late = 0;
  for (let n = first; n <= last; ) {
    const now = microseconds();
    late = Math.max(late, now - dueAt(n));
    for (; n <= last && dueAt(n) <= now; n++) underWay.push(send(n));
    await pause(Math.max(0, (dueAt(n) - microseconds()) / 1000));
  }
  const settled = await Promise.allSettled(underWay);
  return { failed: settled.filter(({ status }) => status === "rejected").length, lateMs: late / 1000 };
}

answerQuestions(publish);
