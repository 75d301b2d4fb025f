import { connect, type Socket } from "node:net";
import { setTimeout as sleep } from "node:timers/promises";
import { connect as connectTls } from "node:tls";
import type { Endpoint } from "./address.js";

/** A client of one server, for one question; it gives up by itself. */
export interface ClusterMember {
  on(event: "error", listener: (error: Error) => void): unknown;
  call(command: string, ...args: string[]): Promise<unknown>;
  disconnect(): void;
}

export interface SlotOptions {
  /** Any key of ours: all lie in the same slot. */
  key: string;
  seeds(): Endpoint[];
  open(node: Endpoint): ClusterMember;
  nat?: ((node: Endpoint) => Endpoint) | undefined;
  tls?: object | undefined;
}

/** What ioredis' AbstractConnector is, which this package does not depend on. */
interface Connector {
  firstError: Error | undefined;
  check(info: { role?: string }): boolean;
  connect(emit: (event: "error", error: Error) => void): Promise<Socket>;
  disconnect(): void;
}

type SlotRange = [first: number, last: number, master: Node, ...replicas: Node[]];
type Node = [host: string | null, port: number, ...unknown[]];

const FIRST_PAUSE_MS = 20;
const LONGEST_PAUSE_MS = 500;

/**
 * For ioredis' `Connector` option: leads a plain client to the server of a Redis Cluster that has the slot of our keys.
 * ioredis' own Cluster client publishes on any server, so that what is said first need not arrive first, and the
 * answer of PUBLISH does not count who listens elsewhere; on one server all of that is as without a Cluster.
 *
 * When the slot moves, the former owner answers MOVED: the client has to reconnect then, and is led here again.
 */
export function slotConnector({
  key,
  seeds,
  open,
  nat = (node) => node,
  tls,
}: SlotOptions): new (options: {
  disconnectTimeout?: number;
}) => Connector {
  let learned: Endpoint[] = [];
  let finding: Promise<Endpoint | Error> | undefined;

  async function ask(node: Endpoint): Promise<Endpoint> {
    const member = open(node);
    let cause: Error | undefined;
    member.on("error", (error) => {
      cause = error;
    });
    try {
      const [slot, ranges, info] = (await Promise.all([
        member.call("CLUSTER", "KEYSLOT", key),
        member.call("CLUSTER", "SLOTS"),
        member.call("CLUSTER", "INFO"),
      ])) as [number, SlotRange[], string];
      // One that was cut off from the others still takes itself for the owner.
      if (String(info).includes("cluster_state:fail")) throw new Error("CLUSTERDOWN The cluster is down");
      const endpoint = ([host, port]: Node) => nat({ host: host || node.host, port });
      const owner = ranges.find(([first, last]) => first <= slot && slot <= last)?.[2];
      if (!owner) throw new Error("no server has the slot");
      learned = ranges.flatMap(([, , ...nodes]) => nodes.map(endpoint));
      return endpoint(owner);
    } catch (error) {
      // Why it could not be asked, rather than that its connection is closed.
      throw cause ?? error;
    } finally {
      member.disconnect();
    }
  }

  /** All are asked at once: one that hangs must not hold up the answer of another. */
  function find(): Promise<Endpoint | Error> {
    const nodes = new Map([...seeds(), ...learned].map((node) => [`${node.host} ${node.port}`, node]));
    finding ??= Promise.any([...nodes.values()].map(ask))
      .catch(({ errors }: AggregateError) => {
        const reasons = new Set(errors.map(({ message }: Error) => message));
        return new Error(`no server of the Cluster leads to our keys: ${[...reasons].join("; ")}`);
      })
      .finally(() => {
        finding = undefined;
      });
    return finding;
  }

  return class SlotConnector implements Connector {
    firstError: Error | undefined;
    #connecting = false;
    #stream: Socket | undefined;
    readonly #disconnectTimeout: number;

    constructor({ disconnectTimeout = 2000 }: { disconnectTimeout?: number }) {
      this.#disconnectTimeout = disconnectTimeout;
    }

    check({ role }: { role?: string }): boolean {
      return role === undefined || role === "master";
    }

    /** Rejects only after {@link disconnect}: a client whose connector rejects is at its end. */
    async connect(emit: (event: "error", error: Error) => void): Promise<Socket> {
      this.#connecting = true;
      for (let pause = FIRST_PAUSE_MS; ; pause = Math.min(pause * 2, LONGEST_PAUSE_MS)) {
        const owner = await find();
        if (!this.#connecting) throw new Error("Connection is closed.");
        if (!(owner instanceof Error)) return this.#open(owner);
        emit("error", owner);
        await sleep(pause);
      }
    }

    disconnect(): void {
      this.#connecting = false;
      const stream = this.#stream;
      if (!stream || stream.writableEnded) return;
      const timer = setTimeout(() => stream.destroy(), this.#disconnectTimeout);
      stream.on("close", () => clearTimeout(timer));
      stream.end();
    }

    #open(owner: Endpoint): Socket {
      const stream = tls ? connectTls({ ...tls, ...owner }) : connect(owner);
      stream.once("error", (error) => {
        this.firstError = error;
      });
      this.#stream = stream;
      return stream;
    }
  };
}
