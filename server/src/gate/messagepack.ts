import { AgentwireError } from "@agentwire/shared";

export const NO_BYTES = "no event takes binary data";

const malformed = () => new AgentwireError("BAD_REQUEST", "not a MessagePack value");

/** What follows one head: a value that is whole already, a text, bytes, or so many values more. */
type Head = { kind: "value"; value: unknown } | { kind: "text" | "bytes" | "list" | "map"; length: number };

/**
 * Reads one MessagePack value that somebody else wrote. The stock decoder believes each length that it is told: five
 * bytes make it take gigabytes, or loop for minutes. Here a value holds no more than its bytes can.
 */
export class MessagePackReader {
  #at = 0;
  /** The first thing that no client says, such as bytes; it is left out, and the rest is read all the same. */
  flaw: string | undefined;

  constructor(
    private readonly bytes: Buffer,
    private readonly maxDepth: number,
  ) {}

  /** @throws AgentwireError BAD_REQUEST when it is not exactly one whole value */
  read(): unknown {
    const value = this.#value(1);
    if (this.#at !== this.bytes.length) throw malformed();
    return value;
  }

  #value(depth: number): unknown {
    const head = this.#head();
    if (head.kind === "value") return head.value;
    if (head.kind === "text") return this.#take(head.length).toString("utf8");
    if (head.kind === "bytes") {
      this.#take(head.length);
      this.flaw ??= NO_BYTES;
      return undefined;
    }
    if (depth > this.maxDepth) {
      this.flaw ??= "nested too deep";
      this.#skip(head);
      return undefined;
    }
    if (head.kind === "map") return this.#map(head.length, depth);
    const list: unknown[] = [];
    for (let n = 0; n < head.length; n++) list.push(this.#value(depth + 1));
    return list;
  }

  #map(length: number, depth: number): Record<string, unknown> {
    const map: Record<string, unknown> = {};
    for (let n = 0; n < length; n++) {
      const head = this.#head();
      if (head.kind !== "text") throw malformed();
      const key = this.#take(head.length).toString("utf8");
      const value = this.#value(depth + 1);
      if (isPrototypeName(key)) this.flaw ??= `a key "${key}"`;
      else map[key] = value;
    }
    return map;
  }

  /** Without a call for each level: there may be a million. */
  #skip(first: Head): void {
    let left = valuesIn(first);
    while (left > 0) {
      const head = this.#head();
      if (head.kind === "text" || head.kind === "bytes") this.#take(head.length);
      left += valuesIn(head) - 1;
    }
  }

  #take(length: number): Buffer {
    if (length > this.bytes.length - this.#at) throw malformed();
    this.#at += length;
    return this.bytes.subarray(this.#at - length, this.#at);
  }

  #head(): Head {
    const first = this.#take(1)[0] as number;
    if (first < 0x80) return { kind: "value", value: first };
    if (first < 0x90) return this.#several("map", first & 0x0f);
    if (first < 0xa0) return this.#several("list", first & 0x0f);
    if (first < 0xc0) return { kind: "text", length: first & 0x1f };
    if (first >= 0xe0) return { kind: "value", value: first - 0x100 };
    const size = 2 ** (first & 0x03);
    switch (first) {
      case 0xc0:
        return { kind: "value", value: null };
      case 0xc2:
      case 0xc3:
        return { kind: "value", value: first === 0xc3 };
      case 0xc4:
      case 0xc5:
      case 0xc6:
        return { kind: "bytes", length: this.#unsigned(2 ** (first - 0xc4)) };
      case 0xc7:
      case 0xc8:
      case 0xc9:
        return { kind: "bytes", length: 1 + this.#unsigned(2 ** (first - 0xc7)) };
      case 0xca:
        return { kind: "value", value: this.#take(4).readFloatBE() };
      case 0xcb:
        return { kind: "value", value: this.#take(8).readDoubleBE() };
      case 0xcc:
      case 0xcd:
      case 0xce:
      case 0xcf:
        return { kind: "value", value: this.#unsigned(size) };
      case 0xd0:
      case 0xd1:
      case 0xd2:
      case 0xd3:
        return { kind: "value", value: this.#signed(size) };
      case 0xd4:
      case 0xd5:
      case 0xd6:
      case 0xd7:
      case 0xd8:
        return this.#fixedExtension(2 ** (first - 0xd4));
      case 0xd9:
      case 0xda:
      case 0xdb:
        return { kind: "text", length: this.#unsigned(2 ** (first - 0xd9)) };
      case 0xdc:
      case 0xdd:
        return this.#several("list", this.#unsigned(first === 0xdc ? 2 : 4));
      case 0xde:
      case 0xdf:
        return this.#several("map", this.#unsigned(first === 0xde ? 2 : 4));
      default:
        throw malformed();
    }
  }

  /** Each value takes a byte at least. */
  #several(kind: "list" | "map", length: number): Head {
    if (length * (kind === "map" ? 2 : 1) > this.bytes.length - this.#at) throw malformed();
    return { kind, length };
  }

  /** The stock encoder writes `undefined` as extension 0 of one byte. */
  #fixedExtension(length: number): Head {
    if (length !== 1 || this.bytes[this.#at] !== 0) return { kind: "bytes", length: 1 + length };
    this.#take(2);
    return { kind: "value", value: undefined };
  }

  #unsigned(size: number): number {
    const bytes = this.#take(size);
    return size === 8 ? Number(bytes.readBigUInt64BE()) : bytes.readUIntBE(0, size);
  }

  #signed(size: number): number {
    const bytes = this.#take(size);
    return size === 8 ? Number(bytes.readBigInt64BE()) : bytes.readIntBE(0, size);
  }
}

const valuesIn = (head: Head): number =>
  head.kind === "list" ? head.length : head.kind === "map" ? 2 * head.length : 0;

/** A key that means something to every JavaScript object. */
export function isPrototypeName(key: string): boolean {
  return key === "__proto__" || key === "constructor" || key === "prototype";
}
