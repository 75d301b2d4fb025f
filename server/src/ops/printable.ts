const MAX = 256;
/** Control, format (bidi too) and unpaired surrogate characters, line separators; the backslash, which marks them. */
const HIDDEN = /[\p{Cc}\p{Cf}\p{Cs}\p{Zl}\p{Zp}\\]/u;

const unit = (char: string, at: number) => `\\u${char.charCodeAt(at).toString(16).padStart(4, "0")}`;

function shown(char: string): string {
  if (!HIDDEN.test(char)) return char;
  if (char === "\\") return "\\\\";
  return char.length === 1 ? unit(char, 0) : unit(char, 0) + unit(char, 1);
}

/**
 * Text from outside, fit for a log that a terminal shows: what cannot be seen is written `\u001b`, a backslash twice, and
 * after 256 characters it ends with `…`. Two texts that are not cut never look alike.
 */
export function printable(text: string): string {
  if (text.length <= MAX && !HIDDEN.test(text)) return text;
  let out = "";
  for (const char of text) {
    const next = shown(char);
    if (out.length + next.length >= MAX) return `${out}…`;
    out += next;
  }
  return out;
}
