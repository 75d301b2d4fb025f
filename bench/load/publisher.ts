import { setTimeout as pause } from "node:timers/promises";
import { createEmitter } from "@agentwire/emitter";
import { AGENTS_NAMESPACE, projectRoom } from "@agentwire/shared";
import { Redis } from "ioredis";
import { answerQuestions } from "../child.js";
import { microseconds } from "../clock.js";
import type { Side } from "../clusters/cluster.js";
import { change, EVENT, envelope, PROJECT } from "./event.js";

/** Publish the events `first` to `last`, evenly. */
export interface Publish {
  side: Side;
  redis: string;
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

function viaEmitter(url: string): Send {
  const emitter = createEmitter({ redis: url });
  return (n) => emitter.agentStatus(change(n));
}

/** What `io.to(room).emit()` of the streams adapter writes, with the adapter's own defaults. */
function viaStream(url: string): Send {
  const redis = new Redis(url);
  const opts = { rooms: [projectRoom(PROJECT)], except: [], flags: {} };
  return (n) => {
    const packet = { type: 2, data: [EVENT, envelope(change(n))], nsp: AGENTS_NAMESPACE };
    const data = JSON.stringify({ packet, opts });
    const fields = ["uid", "emitter", "nsp", AGENTS_NAMESPACE, "type", "3", "data", data];
    return redis.xadd("socket.io", "MAXLEN", "~", 10_000, "*", ...fields);
  };
}

let send: Send | undefined;

/** Never waits for an answer before the next event: a slow receiver must not slow the load down. */
async function publish({ side, redis, rate, first, last }: Publish): Promise<Published> {
  send ??= side === "us" ? viaEmitter(redis) : viaStream(redis);
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
