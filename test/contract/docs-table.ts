import { readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { expect } from "chai";

export const ROOT = fileURLToPath(new URL("../..", import.meta.url));

export function table(head: string[], rows: string[][]): string {
  return [head, head.map(() => "---"), ...rows].map((cells) => `| ${cells.join(" | ")} |`).join("\n");
}

/**
 * Declares the test that a table in a document is what it was made to be here. It stands between `<!-- name -->` and
 * `<!-- /name -->`; with UPDATE_DOCS=1 it is written there first.
 */
export function itsTable(file: string, name: string, made: string): void {
  const path = join(ROOT, file);
  const between = new RegExp(`(<!-- ${name} -->\n)([\\s\\S]*?)(<!-- /${name} -->)`);
  it(`[contract] its table of ${name} is what the code says (UPDATE_DOCS=1 writes it)`, () => {
    if (process.env.UPDATE_DOCS === "1") {
      const text = readFileSync(path, "utf8");
      writeFileSync(
        path,
        text.replace(between, (_, begin, _old, end) => `${begin}\n${made}\n\n${end}`),
      );
    }
    expect(between.exec(readFileSync(path, "utf8"))?.[2]?.trim()).to.equal(made);
  });
}
