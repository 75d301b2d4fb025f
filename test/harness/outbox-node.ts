import { AGENTS_NAMESPACE, compareSequence, type Envelope, type SequenceId } from "@agentwire/shared";
import type { SessionRecord } from "@agentwire/shared/redis";
import { Frame } from "../../server/src/gate/frame.js";
import { resumePosition } from "../../server/src/redis/sessions.js";
import { FakeShare, HandClock, logFrame, numberOf, sequenceId, weigh } from "./gate.js";
import { breath, HubRig } from "./hub-rig.js";
import type { Settings } from "./outbox-rig.js";
import { type NodeRule, OutboxViewer, placeOf } from "./outbox-viewer.js";

export type NodeStep =
  | { publish: { urgent: boolean; size: number; agent_id: string } }
  | { hear: number }
  | { lose: number }
  | { look: true }
  | { answer: number }
  | { ready: number }
  | { block: number }
  | { wait: number }
  | { grant: number };

export interface NodeSettings extends Settings {
  start: "first" | "resume";
  /** So many events there are in the log before anybody comes. */
  before: number;
  /** So many a stretch of history has. */
  stretch: number;
}

/** A node with two viewers, from its log in memory to what the viewers get. */
export class OutboxNode {
  readonly clock = new HandClock();
  readonly broken: { rule: NodeRule; what: string }[] = [];
  readonly #share = new FakeShare();
  readonly #log: Envelope[] = [];
  readonly #sizes: number[] = [];
  readonly #rig: HubRig;
  readonly viewers: OutboxViewer[];

  constructor({ depth, bytes, perSecond, ttlMs, room, start, before, stretch }: NodeSettings) {
    this.#share.room = room;
    for (let n = 0; n < before; n++)
      this.#publish({ urgent: n % 3 === 1, size: 10, agent_id: `a${1 + (n % 2)}` });
    this.#rig = new HubRig({
      log: this.#log,
      stretch,
      outgoing: (envelope) => this.#frame(envelope),
      failed: (error) => this.#break("complete", String(error)),
    });
    const share = this.#share;
    const limits = { bounds: { depth, bytes }, perSecond, ttlMs, share, now: () => this.clock.now };
    const began = start === "first" ? before : 0;
    const broken = this.#break.bind(this);
    this.viewers = [
      new OutboxViewer("all", [], began, limits, broken, this.#log),
      new OutboxViewer("one", ["a1"], began, limits, broken, this.#log),
    ];
    for (const { connection } of this.viewers) this.#rig.hub.add(connection, { name: start });
  }

  async take(step: NodeStep): Promise<void> {
    if ("publish" in step) this.#publish(step.publish);
    else if ("hear" in step) this.#hear(step.hear);
    else if ("lose" in step) this.#rig.lose(step.lose);
    else if ("look" in step) this.#rig.look();
    else if ("answer" in step) await this.#rig.answer(step.answer);
    else if ("ready" in step) this.viewers[step.ready]?.line.ready();
    else if ("block" in step) this.viewers[step.block]?.line.block();
    else if ("wait" in step) this.clock.move(step.wait);
    else this.#share.grant(step.grant);
    await breath();
    for (const { connection, noted } of this.viewers) {
      const now = { last_sent: connection.lastSent, as_of: this.#rig.hub.positionOf(connection) };
      noted.set(JSON.stringify(now), now);
    }
  }

  /** The stream is read, Redis answers, the viewers read, the limits have room: all must come to rest. */
  async settle(): Promise<void> {
    await this.take({ hear: this.#log.length });
    // A node looks again and again: what a look does in the middle of a refill may be for the next one to finish.
    for (let look = 0; look < 2; look++) {
      await this.take({ look: true });
      if (!(await this.#rest())) return this.#break("complete", "does not come to rest");
    }
    for (const viewer of this.viewers) this.#judge(viewer);
  }

  async #rest(): Promise<boolean> {
    for (let atRest = 0, n = 0; atRest < 3; n++) {
      if (n > 600) return false;
      await this.take({ answer: 4 });
      if (this.#share.room === 0) await this.take({ grant: Number.POSITIVE_INFINITY });
      for (const at of this.viewers.keys()) await this.take({ ready: at });
      await this.take({ wait: 500 });
      atRest = this.viewers.every((viewer) => viewer.atRest) ? atRest + 1 : 0;
    }
    return true;
  }

  #judge(viewer: OutboxViewer): void {
    const { id, exit, counters } = viewer;
    const lacks = viewer.lacks(this.#log.length);
    if (lacks.length > 0) this.#break("complete", `${id} lacks ${lacks}`);

    const { backpressure, rate_limit, expired } = counters.dropped;
    const dropped = backpressure.log + rate_limit.log + expired.log;
    if (viewer.announced !== dropped)
      this.#break("accounts", `${id}: ${dropped} dropped, ${viewer.announced} announced`);
    const twice = exit.missed.filter((n, at) => exit.offered.has(n) || exit.missed.indexOf(n) < at);
    if (twice.length > 0) this.#break("accounts", `${id}: ${twice} counted twice`);
    if (exit.uncounted.length > 0)
      this.#break("accounts", `${id}: ${exit.uncounted} were not sent when they came, and not counted`);

    const inPlace = new Set(viewer.got.filter(({ offset }) => offset).map(({ n }) => n));
    const early = [...exit.overtaken].filter((n) => !inPlace.has(n));
    if (early.length > 0)
      this.#break("again", `${id}: ${early} overtook, and did not come again in its place`);

    for (const note of viewer.noted.values()) this.#judgeSession(viewer, note);
  }

  /**
   * The client may be cut off anywhere in what was written to it, and comes back with the last offset that it got: what
   * follows must be all that it has not. Having got more only helps, so the first offset that counts is looked at.
   */
  #judgeSession(
    viewer: OutboxViewer,
    { last_sent, as_of }: { last_sent: SequenceId; as_of: SequenceId },
  ): void {
    const began = sequenceId(viewer.began);
    const session = { began, last_sent, as_of } as SessionRecord;
    const has = new Set<number>();
    let at = began;
    const enough = () => compareSequence(at, last_sent) >= 0;
    for (const { n, offset } of viewer.got) {
      if (enough()) break;
      has.add(n);
      if (offset) at = sequenceId(n);
    }
    if (!enough()) return;
    const position = resumePosition(session, at);
    const lacks = viewer.lacks(numberOf(position), has);
    if (lacks.length > 0)
      this.#break(
        "session",
        `${viewer.id}: cut off at offset ${at} it resumes after ${position}, without ${lacks}`,
      );
  }

  #publish({ urgent, size, agent_id }: { urgent: boolean; size: number; agent_id: string }): void {
    this.#log.push(logFrame(this.#log.length + 1, { urgent, agent_id }).envelope);
    this.#sizes.push(size);
  }

  #frame(envelope: Envelope): Frame {
    const frame = new Frame(AGENTS_NAMESPACE, envelope);
    return weigh(frame, this.#sizes[placeOf(frame) - 1]);
  }

  #hear(count: number): void {
    this.#rig.hear(count, (n) => {
      for (const { connection, exit } of this.viewers) if (connection.refill) exit.late.add(n);
    });
  }

  #break(rule: NodeRule, what: string): void {
    this.broken.push({ rule, what });
  }
}
