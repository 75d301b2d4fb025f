import type { Envelope, SequenceId } from "@agentwire/shared";
import type { Outgoing } from "./connection.js";

export interface SharedReadsOptions {
  read(ids: SequenceId[]): Promise<({ envelope: Envelope } | undefined)[]>;
  outgoing(envelope: Envelope): Outgoing;
}

/** Events that were read together. */
interface Page {
  ready: Promise<void>;
  events: (Outgoing | undefined)[];
}

const KEPT_MS = 5000;
/** Of memory, as far as it can be guessed. */
const MAX_BYTES = 16 * 1_048_576;
/** What an event takes beside its message. */
const FIXED_BYTES = 1024;
/** The message stands in the event, and in what is sent of it. */
const COPIES = 3;

const bytesOf = ({ envelope: { payload } }: Outgoing): number =>
  FIXED_BYTES + COPIES * ("message" in payload ? (payload.message?.length ?? 0) : 0);

/**
 * Reads events of the log for joins that run at about the same time, each once for all of them: when a node has died,
 * many hundred clients ask for the same ones, and to read and encode them for each is most of what that storm costs.
 */
export class SharedReads {
  readonly #places = new Map<SequenceId, { page: Page; n: number }>();
  #bytes = 0;

  constructor(private readonly options: SharedReadsOptions) {}

  /**
   * The events at these ids, in their order; nothing where one is gone.
   * @throws what `read` throws
   */
  async read(ids: SequenceId[]): Promise<(Outgoing | undefined)[]> {
    const unknown = ids.filter((id) => !this.#places.has(id));
    if (unknown.length > 0) this.#begin(unknown);
    const places = ids.map((id) => this.#places.get(id) as { page: Page; n: number });
    await Promise.all([...new Set(places.map(({ page }) => page.ready))]);
    return places.map(({ page, n }) => page.events[n]);
  }

  #begin(ids: SequenceId[]): void {
    if (this.#places.size === 0) setTimeout(() => this.#forget(), KEPT_MS).unref();
    const page: Page = { ready: Promise.resolve(), events: [] };
    for (const [n, id] of ids.entries()) this.#places.set(id, { page, n });
    page.ready = this.#fill(page, ids);
  }

  async #fill(page: Page, ids: SequenceId[]): Promise<void> {
    try {
      const entries = await this.options.read(ids);
      page.events = entries.map((entry) => entry && this.options.outgoing(entry.envelope));
    } catch (error) {
      // Who waits for it is told; who asks next tries again.
      for (const id of ids) if (this.#places.get(id)?.page === page) this.#places.delete(id);
      throw error;
    }
    for (const event of page.events) if (event) this.#bytes += bytesOf(event);
    if (this.#bytes > MAX_BYTES) this.#forget();
  }

  /** Who waits for a page has it. */
  #forget(): void {
    this.#places.clear();
    this.#bytes = 0;
  }
}
