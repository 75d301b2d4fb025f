import { createPublicKey, type KeyObject } from "node:crypto";
import jwksRsa from "jwks-rsa";
import { z } from "zod";

/** Keys older than this are fetched again in the background. */
const REFRESH_MS = 600_000;
/** Keys older than this, because nobody came for a while, are not used before a fetch was tried. */
const OUTDATED_MS = 2 * REFRESH_MS;
/** From the end of one fetch to the next: anyone can make up ids of keys. */
const FLOOR_MS = 30_000;
/** The same while no set was ever fetched: nobody can come in, and the key server may just be starting too. */
const FIRST_FLOOR_MS = 1000;
const TIMEOUT_MS = 2000;
/** A set of hundreds of keys. */
const MAX_BYTES = 262_144;
/** RFC 7518, 3.3. */
const MIN_RSA_BITS = 2048;

const KeySet = z.object({ keys: z.array(z.record(z.string(), z.unknown())) });

export type PublicKeyAlgorithm = "RS256" | "ES256";

export interface PublicKey {
  kid: string;
  algorithm: PublicKeyAlgorithm;
  key: KeyObject;
}

/** The address of the login's key set; nothing when tokens are verified with a secret alone. */
export function jwksUrlOf(given: {
  JWT_JWKS_URL?: string | undefined;
  SUPABASE_URL?: string | undefined;
}): string | undefined {
  const { JWT_JWKS_URL, SUPABASE_URL } = given;
  if (JWT_JWKS_URL || !SUPABASE_URL) return JWT_JWKS_URL;
  return `${SUPABASE_URL.replace(/\/+$/, "")}/auth/v1/.well-known/jwks.json`;
}

/**
 * The public keys that a login signs with, fetched from one address (a JWKS) and kept. A set that was fetched replaces
 * the one before, an empty one too: that is how keys are withdrawn. A fetch that failed changes nothing.
 */
export class KeyServer {
  readonly #client: ReturnType<typeof jwksRsa>;
  readonly #onError: (error: unknown) => void;
  readonly #now: () => number;
  #keys: PublicKey[] = [];
  #fetchedAt: number | undefined;
  #lastFailed = false;
  #nextFetchAt = Number.NEGATIVE_INFINITY;
  #underWay: Promise<void> | undefined;

  /**
   * Begins to fetch.
   * @param onError gets what made a fetch fail, at most once a second
   * @param now in ms, never going back
   */
  constructor(url: string, onError: (error: unknown) => void, now = () => performance.now()) {
    // The package's own cache forgets keys while the key server is down, and its own request hangs when a connection
    // is cut within an answer.
    this.#client = jwksRsa({ jwksUri: url, fetcher: download, cache: false, rateLimit: false });
    this.#onError = onError;
    this.#now = now;
    void this.#fetch();
  }

  /**
   * The keys with this id, after a fetch where there is none. An empty list: the key server has no such key.
   * `UNAVAILABLE`: it may have one, but did not answer. Never rejects.
   */
  async find(kid: string): Promise<PublicKey[] | "UNAVAILABLE"> {
    const known = this.#withId(kid);
    if (known.length === 0) {
      await this.#fetch();
    } else {
      const age = this.#now() - (this.#fetchedAt ?? 0);
      const fetching = age > REFRESH_MS ? this.#fetch() : undefined;
      if (age <= OUTDATED_MS) return known;
      await fetching;
    }
    const found = this.#withId(kid);
    return found.length === 0 && this.#lastFailed ? "UNAVAILABLE" : found;
  }

  #withId(kid: string): PublicKey[] {
    return this.#keys.filter((key) => key.kid === kid);
  }

  /** All who ask while a fetch is under way share it; before its time is come there is none. */
  #fetch(): Promise<void> {
    if (!this.#underWay && this.#now() < this.#nextFetchAt) return Promise.resolve();
    this.#underWay ??= this.#replaceKeys().finally(() => {
      this.#underWay = undefined;
    });
    return this.#underWay;
  }

  async #replaceKeys(): Promise<void> {
    const isFirst = this.#fetchedAt === undefined;
    try {
      this.#keys = await this.#usableKeys();
      this.#fetchedAt = this.#now();
      this.#lastFailed = false;
      // The first set was not fetched for an unknown key: one that came after it is still to be found at once.
      if (!isFirst) this.#nextFetchAt = this.#now() + FLOOR_MS;
    } catch (error) {
      this.#lastFailed = true;
      this.#nextFetchAt = this.#now() + (isFirst ? FIRST_FLOOR_MS : FLOOR_MS);
      this.#onError(error);
    }
  }

  async #usableKeys(): Promise<PublicKey[]> {
    const signing = await this.#client.getSigningKeys().catch((error: unknown) => {
      // Its word for a set in which there is nothing that it knows.
      if (error instanceof jwksRsa.JwksError) return [];
      throw error;
    });
    return signing.flatMap(({ kid, alg, getPublicKey }) => {
      const key = createPublicKey(getPublicKey());
      const algorithm = algorithmOf(key);
      if (!kid || !algorithm || (alg && alg !== algorithm)) return [];
      return [{ kid, algorithm, key }];
    });
  }
}

/** The one algorithm that a key is good for. */
function algorithmOf({ asymmetricKeyType, asymmetricKeyDetails }: KeyObject): PublicKeyAlgorithm | undefined {
  if (asymmetricKeyType === "rsa") {
    return (asymmetricKeyDetails?.modulusLength ?? 0) >= MIN_RSA_BITS ? "RS256" : undefined;
  }
  const isP256 = asymmetricKeyType === "ec" && asymmetricKeyDetails?.namedCurve === "prime256v1";
  return isP256 ? "ES256" : undefined;
}

/** @throws Error when there is no whole, well-formed answer in time; no redirect is followed */
async function download(url: string): Promise<z.infer<typeof KeySet>> {
  const signal = AbortSignal.timeout(TIMEOUT_MS);
  const answer = await fetch(url, { redirect: "manual", signal }).catch((error: Error) => {
    // "fetch failed" alone helps nobody.
    const { cause } = error as { cause?: { code?: string; message?: string } };
    throw new Error(`no answer: ${cause?.code ?? cause?.message ?? error.message}`, { cause: error });
  });
  if (!answer.ok || !answer.body) {
    await answer.body?.cancel();
    throw new Error(`the answer is ${answer.status}`);
  }
  const chunks: Uint8Array[] = [];
  let bytes = 0;
  for await (const chunk of answer.body) {
    chunks.push(chunk);
    bytes += chunk.length;
    if (bytes > MAX_BYTES) throw new Error(`the answer is longer than ${MAX_BYTES} bytes`);
  }
  const parsed = KeySet.safeParse(JSON.parse(Buffer.concat(chunks).toString("utf8")));
  if (!parsed.success) throw new Error("the answer is no key set");
  return parsed.data;
}
