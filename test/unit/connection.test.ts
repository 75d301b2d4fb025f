import { type EventType, type Filters, filterable, SEQUENCE_START, stamp } from "@agentwire/shared";
import { expect } from "chai";
import {
  Connection,
  type Exit,
  MAX_HELD,
  MAX_HELD_BEHIND,
  type Outgoing,
  type Pace,
} from "../../server/src/node/connection.js";

/** Of no matter where the gate drops nothing. */
const BEFORE = "0-0";
const all: Filters = { agent_ids: [], project_ids: [], event_types: [] };

/** The gate's side: remembers what was sent. */
class Recorder implements Exit {
  open = true;
  waiting = 0;
  /** In the order in which they leave, whichever way. */
  readonly sent: string[] = [];
  readonly overtaken: string[] = [];
  readonly refilled: [string, Pace][] = [];
  readonly missed: string[] = [];
  readonly befores: string[] = [];
  readonly said: EventType[] = [];
  drop: (at: string, reason: string) => void = () => {};
  /** What the gate does with the next live event. */
  takes: (event: Outgoing) => boolean = () => true;

  send(event: Outgoing, before: string): boolean {
    if (!this.takes(event)) return false;
    this.sent.push(id(event));
    this.befores.push(before);
    return true;
  }
  overtake(event: Outgoing): void {
    this.overtaken.push(id(event));
  }
  replay(event: Outgoing): void {
    this.sent.push(id(event));
  }
  refill(event: Outgoing, pace: Pace): void {
    this.sent.push(id(event));
    this.refilled.push([id(event), pace]);
  }
  miss(event: Outgoing): void {
    this.missed.push(id(event));
  }
  announceMissed(): void {}
  say(event_type: EventType): void {
    this.said.push(event_type);
  }
  async drained(): Promise<void> {}
  onBehind(listener: (at: string, reason: string) => void): void {
    this.drop = listener;
  }
  withdraw(): void {}
  onStale(): void {}
  show(event: Outgoing): void {
    this.sent.push(id(event));
  }
}

const id = ({ envelope }: Outgoing) => envelope.sequence_id as string;

function event(sequence_id: string, project_id = "p1", agent_id = "a1", urgent = false): Outgoing {
  const new_status = urgent ? ("failed" as const) : ("working" as const);
  const payload = { agent_id, project_id, old_status: null, new_status };
  const envelope = { ...stamp("AGENT_STATUS_CHANGED", `e-${sequence_id}`, payload), sequence_id };
  return { envelope, about: filterable(envelope), urgent };
}

describe("connection", () => {
  const begin = ({ filters = all, position = "10-0" } = {}) => {
    const exit = new Recorder();
    const connection = new Connection("c1", "anna", new Set(["p1", "p3"]), filters, "now", position, exit);
    return { exit, connection };
  };
  const live = (options?: Parameters<typeof begin>[0]) => {
    const begun = begin(options);
    expect(begun.connection.goLive()).to.equal(true);
    return begun;
  };

  it("[D5] while it joins, live events are held back; then they come in their order, and later ones at once", () => {
    const { exit, connection } = begin();
    connection.hear(event("11-0"), BEFORE);
    connection.hear(event("12-0"), BEFORE);
    expect(connection.live).to.equal(false);
    expect(exit.sent).to.deep.equal([]);
    expect(connection.position).to.equal("10-0");
    expect(connection.goLive()).to.equal(true);
    connection.hear(event("13-0"), BEFORE);
    expect(exit.sent).to.deep.equal(["11-0", "12-0", "13-0"]);
    expect({ live: connection.live, at: connection.position, last: connection.lastSent }).to.deep.equal({
      live: true,
      at: "12-0",
      last: "13-0",
    });
  });

  it("[D5] what a replay has sent already is known by its position, and not sent from what was held back", () => {
    const { exit, connection } = begin();
    for (const id of ["11-0", "12-0", "13-0"]) connection.hear(event(id), BEFORE);
    for (const id of ["11-0", "12-0"]) connection.pass(event(id));
    connection.goLive();
    expect(exit.sent).to.deep.equal(["11-0", "12-0", "13-0"]);
  });

  it("[D5] an event at or before the position is a repeat: by number, not by text", () => {
    const { exit, connection } = live();
    for (const id of ["10-0", "9-0", "9-99", "10-1", "11-0"]) connection.hear(event(id), BEFORE);
    expect(exit.sent).to.deep.equal(["10-1", "11-0"]);
  });

  it("[D5] an event without a place in the log is not passed on here", () => {
    const { exit, connection } = live();
    const { sequence_id: _, ...envelope } = event("11-0").envelope;
    connection.hear({ envelope } as Outgoing, BEFORE);
    expect(exit.sent).to.deep.equal([]);
  });

  it("[D11] rights are checked whatever room or replay an event came from", () => {
    const { exit, connection } = begin({ filters: { ...all, agent_ids: ["a1"] } });
    connection.pass(event("11-0", "p2"));
    connection.hear(event("12-0", "p2"), BEFORE);
    connection.hear(event("13-0", "p1"), BEFORE);
    connection.goLive();
    connection.hear(event("14-0", "p2"), BEFORE);
    connection.hear(event("15-0", "p3"), BEFORE);
    expect(exit.sent).to.deep.equal(["13-0", "15-0"]);
  });

  it("[D11] a filter for a project is no right to it", () => {
    const { exit, connection } = live({ filters: { ...all, project_ids: ["p2"] } });
    connection.hear(event("11-0", "p2"), BEFORE);
    expect(exit.sent).to.deep.equal([]);
  });

  it("[D4][D5] what is not wanted moves the position, but was not sent", () => {
    const { exit, connection } = live({ filters: { ...all, agent_ids: ["a1"] } });
    connection.hear(event("11-0", "p1", "a1"), BEFORE);
    connection.hear(event("12-0", "p1", "a2"), BEFORE);
    expect(exit.sent).to.deep.equal(["11-0"]);
    expect(connection.lastSent).to.equal("11-0");
    connection.fallBehind("12-0");
    connection.pass(event("13-0", "p1", "a2"));
    expect({ at: connection.position, last: connection.lastSent }).to.deep.equal({
      at: "13-0",
      last: "11-0",
    });
    expect(begin().connection.lastSent).to.equal(SEQUENCE_START);
  });

  it("[D4] new filters hold for what comes after them, also for what was held back", () => {
    const { exit, connection } = begin();
    connection.hear(event("11-0", "p1", "a1"), BEFORE);
    connection.hear(event("12-0", "p1", "a2"), BEFORE);
    connection.filters = { ...all, agent_ids: ["a2"] };
    connection.goLive();
    connection.hear(event("13-0", "p1", "a1"), BEFORE);
    expect(exit.sent).to.deep.equal(["12-0"]);
  });

  it("[D9] behind while live: a join must be started, from the place of the hole; what comes is held back", () => {
    const { exit, connection } = live();
    connection.hear(event("11-0"), BEFORE);
    expect(connection.fallBehind("15-0")).to.equal(true);
    expect({ live: connection.live, at: connection.position }).to.deep.equal({ live: false, at: "15-0" });
    connection.hear(event("18-0"), BEFORE);
    connection.pass(event("16-0"));
    expect(connection.goLive()).to.equal(true);
    expect(exit.sent).to.deep.equal(["11-0", "16-0", "18-0"]);
  });

  it("[D9] a hole before the position does not take it back", () => {
    const { connection } = live({ position: "20-0" });
    connection.fallBehind("15-0");
    expect(connection.position).to.equal("20-0");
  });

  it("[D9] behind while it joins: the join that is under way must read again, once, from its own position", () => {
    const { exit, connection } = begin();
    connection.hear(event("11-0"), BEFORE);
    expect(connection.fallBehind("15-0"), "a second join").to.equal(false);
    expect(connection.position).to.equal("10-0");
    connection.hear(event("18-0"), BEFORE);
    expect(connection.goLive()).to.equal(false);
    expect(connection.live).to.equal(false);
    expect(exit.sent, "nothing may overtake what lies in the hole").to.deep.equal([]);
    for (const id of ["11-0", "12-0", "18-0"]) connection.pass(event(id));
    connection.hear(event("19-0"), BEFORE);
    expect(connection.goLive()).to.equal(true);
    expect(exit.sent).to.deep.equal(["11-0", "12-0", "18-0", "19-0"]);
  });

  it("[D9] more than fits in memory while it joins: all of it is dropped, and the join reads again", () => {
    const { exit, connection } = begin();
    for (let n = 1; n <= MAX_HELD; n++) connection.hear(event(`11-${n}`), BEFORE);
    connection.hear(event("12-0"), BEFORE);
    connection.hear(event("13-0"), BEFORE);
    expect(connection.goLive()).to.equal(false);
    for (let n = 1; n <= MAX_HELD; n++) connection.pass(event(`11-${n}`));
    connection.pass(event("12-0"));
    connection.pass(event("13-0"));
    expect(connection.goLive()).to.equal(true);
    expect(exit.sent).to.have.length(MAX_HELD + 2);
    expect(exit.sent.slice(-2)).to.deep.equal(["12-0", "13-0"]);
    expect(new Set(exit.sent).size).to.equal(exit.sent.length);
  });

  it("[D9] just as much as fits is held back, and comes", () => {
    const { exit, connection } = begin();
    for (let n = 1; n <= MAX_HELD; n++) connection.hear(event(`11-${n}`), BEFORE);
    expect(connection.goLive()).to.equal(true);
    expect(exit.sent).to.have.length(MAX_HELD);
  });

  it("[D21] an event that the gate drops takes the position back to before it, and history must be read", () => {
    const { exit, connection } = live();
    let begun = 0;
    connection.onBehind = () => begun++;
    connection.hear(event("11-0"), "10-5");
    exit.takes = () => {
      exit.drop("11-3", "backpressure");
      return false;
    };
    connection.hear(event("12-0"), "11-3");
    expect({
      begun,
      live: connection.live,
      at: connection.position,
      last: connection.lastSent,
    }).to.deep.equal({
      begun: 1,
      live: false,
      at: "11-3",
      last: "12-0",
    });
    expect(exit.befores).to.deep.equal(["10-5"]);
  });

  it("[D21] while it is behind: CRITICAL goes at once, what is not held is announced, all comes again in its order", () => {
    const { exit, connection } = live();
    exit.drop("10-0", "rate_limit");
    connection.hear(event("11-0"), BEFORE);
    connection.hear(event("12-0", "p1", "a1", true), BEFORE);
    connection.hear(event("12-1", "p2", "a1", true), BEFORE);
    expect({ sent: exit.sent, overtaken: exit.overtaken, missed: exit.missed }).to.deep.equal({
      sent: [],
      overtaken: ["12-0"],
      missed: ["11-0"],
    });
    connection.startRead();
    connection.hear(event("13-0"), BEFORE);
    for (const one of ["11-0", "12-0"]) connection.pass(event(one));
    expect(connection.goLive()).to.equal(true);
    expect(exit.refilled).to.deep.equal([
      ["11-0", "limited"],
      ["12-0", "limited"],
      ["13-0", "limited"],
    ]);
  });

  it("[D21] more than is held while it is behind is announced, each once", () => {
    const { exit, connection } = live();
    exit.drop("10-0", "backpressure");
    connection.startRead();
    for (let n = 1; n <= MAX_HELD_BEHIND; n++) connection.hear(event(`11-${n}`), BEFORE);
    expect(exit.missed).to.deep.equal([]);
    for (let n = 1; n <= 3; n++) connection.hear(event(`12-${n}`), BEFORE);
    expect(exit.missed).to.have.length(MAX_HELD_BEHIND + 3);
    expect(new Set(exit.missed).size).to.equal(MAX_HELD_BEHIND + 3);
    expect(connection.goLive()).to.equal(false);
  });

  it("[D20] once over a limit, a refill keeps to it, whatever is dropped after", () => {
    const { exit, connection } = live();
    exit.drop("10-0", "expired");
    exit.drop("10-0", "backpressure");
    expect(connection.refill).to.equal("limited");
    const other = live();
    other.exit.drop("10-0", "backpressure");
    expect(other.connection.refill).to.equal("free");
    other.exit.drop("9-0", "rate_limit");
    expect([other.connection.refill, other.connection.position]).to.deep.equal(["limited", "9-0"]);
  });
});
