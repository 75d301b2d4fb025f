/** So much of a secret is enough to be found by: what cuts it leaves a piece. */
const PIECE = 16;
/** A shorter one would be found where it is only a word. */
const SHORTEST = 12;
const WORDS = new RegExp(`[A-Za-z0-9_-]{${PIECE},}`, "g");
/** How every part of a JWT begins that is JSON: `{"` and more. */
const JSON_PART = /^eyJ[A-Za-z0-9_-]{13}/;

export interface Leak {
  what: string;
  where: string;
  /** The text around it. */
  text: string;
}

/** Looks for thousands of secrets in megabytes of text, in one pass. */
export class SecretSearch {
  /** By the beginning of each. */
  readonly #pieces = new Map<string, string>();
  /** Those that are no single word. */
  readonly #phrases = new Map<string, string>();
  readonly #texts = new Map<string, string[]>();

  /** How many secrets are looked for. */
  get size(): number {
    return this.#pieces.size + this.#phrases.size;
  }

  /** What was seen: from where, and how many texts. */
  get seen(): Map<string, number> {
    return new Map([...this.#texts].map(([where, texts]) => [where, texts.length]));
  }

  /** A token is known by its signature; that the rest of one stands somewhere is seen without knowing it. */
  addToken(token: string): void {
    this.add("a token", token.split(".")[2] ?? "");
  }

  add(what: string, secret: string): void {
    if (secret.length < SHORTEST) return;
    const [word] = secret.match(WORDS) ?? [];
    if (word === secret) this.#pieces.set(secret.slice(0, PIECE), what);
    else this.#phrases.set(secret, what);
  }

  /** Something that whoever holds no secret may read. */
  see(where: string, text: string): void {
    const texts = this.#texts.get(where);
    if (texts) texts.push(text);
    else this.#texts.set(where, [text]);
  }

  find(): Leak[] {
    return [...this.#texts].flatMap(([where, texts]) => texts.flatMap((text) => this.#findIn(where, text)));
  }

  #findIn(where: string, text: string): Leak[] {
    const leaks: Leak[] = [];
    const note = (what: string, at: number) =>
      leaks.push({ what, where, text: text.slice(Math.max(0, at - 100), at + 100) });
    for (const { 0: word, index } of text.matchAll(WORDS)) {
      if (isJsonPart(word)) note("part of a token", index);
      for (let n = 0; n + PIECE <= word.length; n++) {
        const what = this.#pieces.get(word.slice(n, n + PIECE));
        if (what) note(what, index + n);
      }
    }
    for (const [phrase, what] of this.#phrases) {
      const at = text.indexOf(phrase);
      if (at >= 0) note(what, at);
    }
    return leaks;
  }
}

function isJsonPart(word: string): boolean {
  const [begin] = JSON_PART.exec(word) ?? [];
  return begin !== undefined && /^[ -~]+$/.test(Buffer.from(begin, "base64url").toString("latin1"));
}

/** Of everything that the tests of this process used and saw. */
export const secrets = new SecretSearch();

/** Remembers an answer, or anything else that the other side of a connection gets to read, for the search at the end. */
export function seenByOutsiders(text: string, where = "an answer"): void {
  secrets.see(where, text);
}

/** Remembers the secrets among the settings of a node. */
export function keepSecretsOf(settings: NodeJS.ProcessEnv): void {
  for (const [name, value = ""] of Object.entries(settings)) {
    if (name.endsWith("_KEY")) for (const key of value.split(",")) secrets.add(name, key.trim());
    else if (/_(SECRET|PASSWORD)$/.test(name)) secrets.add(name, value);
    else if (URL.canParse(value))
      secrets.add(`the password in ${name}`, decodeURIComponent(new URL(value).password));
  }
}
