/** What a coding agent says at length, as templates: `#` becomes a number, `@` a name, `$` a file. */
const LINES = [
  "Ran # tests in $: # passed, # failed (# ms).",
  "  expected @ to equal #, but it was # at $:#",
  "Edited $ (+# -#): @ now calls @ before it returns.",
  "The failure in $ comes from @, which reads # entries too many.",
  "Next: split @ into @ and @, then run the tests of $ again.",
  "- [x] $: replaced @ by @, # lines",
  "- [ ] $: @ still holds a lock for # ms",
  "Searched for @ in # files, # matches, the first in $:#.",
];
const NAMES = ["readEntry", "flushQueue", "parseHeader", "openStore", "mergeState", "takeLease", "nextFrame"];
const FOLDERS = ["server/src/queue", "server/src/store", "client/src/view", "shared/src/codec", "test/unit"];
const FILES = ["index.ts", "reader.ts", "writer.ts", "lease.ts", "frame.test.ts", "state.test.ts"];

/** The same numbers in each process for the same seed (mulberry32). */
function dice(seed: number): (sides: number) => number {
  let state = seed | 0;
  return (sides) => {
    state = (state + 0x6d2b79f5) | 0;
    let t = Math.imul(state ^ (state >>> 15), 1 | state);
    t = (t + Math.imul(t ^ (t >>> 7), 61 | t)) ^ t;
    return Math.floor((((t ^ (t >>> 14)) >>> 0) / 2 ** 32) * sides);
  };
}

/** So many characters of a message that differs for each `n`, and that deflate makes about a quarter of. */
export function text(n: number, length: number): string {
  const roll = dice(n);
  const one = (list: string[]) => list[roll(list.length)] as string;
  const fill = (sign: string) => {
    if (sign === "#") return String(roll(200));
    return sign === "@" ? `\`${one(NAMES)}\`` : `${one(FOLDERS)}/${one(FILES)}`;
  };
  let written = "";
  while (written.length < length) written += `${one(LINES).replaceAll(/[#@$]/g, fill)}\n`;
  return written.slice(0, length);
}
