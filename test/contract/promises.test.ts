import { readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { expect } from "chai";

const ROOT = fileURLToPath(new URL("../..", import.meta.url));

/** The numbers that a title begins with: `[D7][D5] …`. */
const numbersOf = (title: string): string[] =>
  [...(/^(?:\[D\d+\])+/.exec(title)?.[0].matchAll(/D\d+/g) ?? [])].map(([number]) => number);

/** The titles of a file's tests; not of those that are skipped, which prove nothing. */
const titlesOf = (text: string): string[] =>
  [...text.matchAll(/\bit(?:\.only)?\(\s*(["'`])((?:\\.|(?!\1)[^\\])*)\1/g)].map(([, , title = ""]) => title);

const promised = [...readFileSync(join(ROOT, "docs/delivery.md"), "utf8").matchAll(/^\| (D\d+) \|/gm)].map(
  ([, number = ""]) => number,
);
const titles = readdirSync(join(ROOT, "test"), { recursive: true, encoding: "utf8" })
  // The titles in this file's own sample are none.
  .filter((name) => name.endsWith(".test.ts") && !name.endsWith("promises.test.ts"))
  .flatMap((name) =>
    titlesOf(readFileSync(join(ROOT, "test", name), "utf8")).map((title) => ({ name, title })),
  );

describe("the promises", () => {
  it("[contract] titles are read as they are written", () => {
    const text = [
      'it("[D1] a", () => {});',
      "it(`[D2][D3] b`, () => {});",
      "it(\n  '[D4] c',\n () => {});",
      'it.skip("[D5] d", () => {});',
      'it("e [D6]", () => {});',
    ].join("\n");
    expect(titlesOf(text).map(numbersOf)).to.deep.equal([["D1"], ["D2", "D3"], ["D4"], []]);
    expect(titles.length).to.be.above(100);
  });

  it("[contract] each has its number, in order", () => {
    expect(promised).to.deep.equal(promised.map((_, n) => `D${n + 1}`));
    expect(promised).not.to.have.length(0);
  });

  it("[contract] each is proven by a test", () => {
    const cited = new Set(titles.flatMap(({ title }) => numbersOf(title)));
    expect(promised.filter((number) => !cited.has(number))).to.deep.equal([]);
  });

  it("[contract] a title cites no other numbers, and not anywhere but at its beginning", () => {
    const wrong = titles.filter(({ title }) => {
      const leading = numbersOf(title);
      const all = [...title.matchAll(/\[(D\d+)\]/g)];
      return all.length !== leading.length || leading.some((number) => !promised.includes(number));
    });
    expect(wrong.map(({ name, title }) => `${name}: ${title}`)).to.deep.equal([]);
  });
});
