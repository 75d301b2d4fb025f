import type { Envelope } from "@agentwire/shared";
import { io, type Socket } from "socket.io-client";
import { microseconds } from "../clock.js";
import { countInProject, EVENT, readMessage } from "./event.js";
import type { OnLine, Target } from "./viewer.js";

/** Who connects with `target`, and after its connection was lost with these addresses in turn, as a load balancer has it. */
export interface ReturnTarget extends Target {
  back: string[];
}

/**
 * A browser that loses its connection and comes back: the stock client, with its own offsets and its own backoff. It
 * keeps the count of each event of its project.
 */
export class Returner {
  readonly joined: Promise<void>;
  readonly #socket: Socket;
  /** By the event's number in its project: how often it came. */
  #times: number[] = [];
  /** Events up to here are of the warm-up, and do not count. */
  #first = 0;
  #attempts = 0;
  #goal = Number.POSITIVE_INFINITY;
  /** The events up to here are there without a gap. */
  upTo = 0;
  /** {@link microseconds}: when it was connected again, and when it then had everything up to its goal. */
  backAt: number | undefined;
  completeAt: number | undefined;
  recovered = false;

  constructor(
    private readonly target: ReturnTarget,
    private readonly projects: number,
  ) {
    const { url, options, joinedAt } = target;
    const socket = io(url, { transports: ["websocket"], forceNew: true, ...options });
    this.#socket = socket;
    this.joined = new Promise((resolve) => socket.once(joinedAt, () => resolve()));
    socket.on(EVENT, ({ payload }: Envelope<typeof EVENT>) => this.#hear(payload.message ?? ""));
    socket.on("connect", () => {
      if (this.#goal === Number.POSITIVE_INFINITY) return;
      this.recovered = socket.recovered;
      this.backAt ??= microseconds();
      this.#judge();
    });
    socket.io.on("reconnect_attempt", () => this.#nextAddress());
  }

  get connected(): boolean {
    return this.#socket.connected;
  }

  get complete(): boolean {
    return this.completeAt !== undefined;
  }

  /** It has a new session, in which what it missed will not come. */
  get startedAnew(): boolean {
    return this.connected && this.backAt !== undefined && !this.recovered;
  }

  /** From now on it stays away once its connection is lost. */
  stay(): void {
    this.#socket.io.reconnection(false);
  }

  /** Loses its connection without a word, as a network does it. */
  cut(): void {
    const { transport } = this.#socket.io.engine as unknown as { transport: { ws: OnLine } };
    (transport.ws._socket as unknown as { destroy(): void }).destroy();
  }

  /**
   * Comes back at once, and backs off from there on.
   * @param goal the number of the last event that was published
   * @param home to the node that it came from
   */
  return(goal: number, home: boolean): void {
    this.#goal = goal;
    if (!home) this.#nextAddress();
    this.#socket.io.reconnection(true);
    this.#socket.connect();
  }

  /** All until now was the warm-up, which ended with event number `last`. */
  beginAgain(last: number): void {
    this.#times = [];
    this.#first = last;
    this.upTo = last;
    this.#goal = Number.POSITIVE_INFINITY;
    this.backAt = undefined;
    this.completeAt = undefined;
  }

  /** Of the events up to `last`: how many never came, and how many copies came too many. */
  faults(last: number): { lost: number; doubled: number } {
    let lost = 0;
    let doubled = 0;
    for (let n = this.#first + 1; n <= last; n++) {
      const times = this.#times[n] ?? 0;
      if (times === 0) lost++;
      else doubled += times - 1;
    }
    return { lost, doubled };
  }

  #nextAddress(): void {
    const { back } = this.target;
    const manager = this.#socket.io as unknown as { uri: string };
    manager.uri = back[this.#attempts++ % back.length] as string;
  }

  #hear(message: string): void {
    const n = countInProject(readMessage(message).n, this.projects);
    if (n <= this.#first) return;
    this.#times[n] = (this.#times[n] ?? 0) + 1;
    while (this.#times[this.upTo + 1]) this.upTo++;
    this.#judge();
  }

  #judge(): void {
    if (this.completeAt === undefined && this.backAt !== undefined && this.upTo >= this.#goal)
      this.completeAt = microseconds();
  }
}
