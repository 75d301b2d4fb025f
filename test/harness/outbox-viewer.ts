import { type Envelope, filterable, type PayloadOf, type SequenceId } from "@agentwire/shared";
import { createCounters } from "../../server/src/gate/counters.js";
import type { Frame } from "../../server/src/gate/frame.js";
import { Exit } from "../../server/src/gate/gate.js";
import { type Limits, Outbox } from "../../server/src/gate/outbox.js";
import { Connection } from "../../server/src/node/connection.js";
import { FakeLine, noticeIn, numberOf, sequenceId, type Written } from "./gate.js";
import { socketOf } from "./hub-rig.js";

/** What may go wrong, each found by a test of its own. */
export type NodeRule = "offset" | "order" | "complete" | "session" | "accounts" | "again";

/** The number of a status change in the log. */
export const placeOf = ({ envelope }: Frame): number => numberOf(envelope.sequence_id as SequenceId);

/** One that notes what the connection does with it. */
export class NotingExit extends Exit {
  readonly offered = new Set<number>();
  readonly missed: number[] = [];
  readonly overtaken = new Set<number>();
  /** Came while the connection was behind, since history was read last. */
  readonly late = new Set<number>();
  /** Of those, the ones that were forgotten when it was read again, and not counted. */
  readonly uncounted: number[] = [];

  override send(event: Frame, before: SequenceId): void {
    this.offered.add(placeOf(event));
    super.send(event, before);
  }

  override overtake(event: Frame): void {
    this.offered.add(placeOf(event));
    this.overtaken.add(placeOf(event));
    super.overtake(event);
  }

  override miss(event: Frame): void {
    this.missed.push(placeOf(event));
    super.miss(event);
  }
}

/** A client, from its connection on the node to what it got. */
export class OutboxViewer {
  readonly line: FakeLine;
  readonly outbox: Outbox;
  readonly exit: NotingExit;
  readonly connection: Connection;
  readonly counters = createCounters();
  /** In the order in which it got them; the offset where it has one. */
  readonly got: { n: number; offset: boolean; urgent: boolean }[] = [];
  readonly has = new Set<number>();
  announced = 0;
  lastOffset = 0;
  lastHigh = 0;
  /** What Redis may know of it at some time: how far it has come. */
  readonly noted = new Map<string, { last_sent: SequenceId; as_of: SequenceId }>();

  constructor(
    readonly id: string,
    agent_ids: string[],
    readonly began: number,
    limits: Limits,
    broken: (rule: NodeRule, what: string) => void,
    private readonly log: readonly Envelope[],
  ) {
    this.line = new FakeLine(() => limits.now());
    this.outbox = new Outbox(this.line, limits, this.counters, true);
    this.line.onReady = () => this.outbox.flush();
    this.line.onWrite = (one) => this.#take(one, (rule, what) => broken(rule, `${id}: ${what}`));
    this.exit = new NotingExit(socketOf(), this.outbox, this.counters);
    const filters = { agent_ids, project_ids: [], event_types: [] };
    const projects = new Set(["p1"]);
    this.connection = new Connection(id, "anna", projects, filters, "now", sequenceId(began), this.exit);
    const startRead = this.connection.startRead.bind(this.connection);
    this.connection.startRead = () => {
      const { late, offered, missed, uncounted } = this.exit;
      const from = numberOf(this.connection.position);
      startRead();
      const due = this.wanted(this.log.length).filter((n) => n > from && late.has(n));
      uncounted.push(...due.filter((n) => !offered.has(n) && !missed.includes(n)));
      late.clear();
    };
  }

  /** Events that it should get, up to this one. */
  wanted(to: number): number[] {
    const about = this.log.slice(this.began, to).map(filterable);
    return about.flatMap((one, at) => (this.connection.wants(one) ? this.began + at + 1 : []));
  }

  lacks(to: number, has: ReadonlySet<number> = this.has): number[] {
    return this.wanted(to).filter((n) => !has.has(n));
  }

  get atRest(): boolean {
    return this.connection.live && this.line.writable && this.outbox.bytes === 0;
  }

  #take({ frame, offset }: Written, broken: (rule: NodeRule, what: string) => void): void {
    const notice = noticeIn(frame);
    if (notice?.of === "messages") this.announced += notice.count;
    if (frame.envelope.event_type === "REPLAY_END") {
      const { to } = frame.envelope.payload as PayloadOf<"REPLAY_END">;
      const lacks = this.lacks(numberOf(to));
      if (lacks.length > 0) broken("complete", `the replay ended at ${to} without ${lacks}`);
    }
    if (frame.delivery !== "log") return;
    const n = placeOf(frame);
    this.got.push({ n, offset, urgent: frame.urgent });
    this.has.add(n);
    if (!frame.urgent) {
      if (n <= this.lastHigh) broken("order", `${n} came after ${this.lastHigh}`);
      this.lastHigh = n;
    }
    if (!offset) return;
    if (n <= this.lastOffset) broken("order", `offset ${n} came after ${this.lastOffset}`);
    this.lastOffset = n;
    const lacks = this.lacks(n);
    if (lacks.length > 0) broken("offset", `offset ${n} came before ${lacks}`);
  }
}
