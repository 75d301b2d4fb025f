import type { Side } from "./clusters/cluster.js";
import type { Round } from "./round.js";
import { median } from "./stats.js";

export type Column<R = Round> = { title: string; of(round: R): number; digits: number };

const LABEL = 14;

/** The lines of a report with these columns. */
export function table<R extends { side: Side } = Round>(columns: Column<R>[]) {
  const line = (label: string, cells: string[]): string =>
    [label.padEnd(LABEL), ...cells.map((cell, i) => cell.padStart(columns[i]?.title.length ?? 0))].join("  ");
  const medians = (rounds: R[], side: Side) => columns.map(({ of }) => medianOf(rounds, side, of));

  return {
    header: (): string =>
      line(
        "",
        columns.map(({ title }) => title),
      ),

    row: (label: string, round: R): string =>
      line(
        label,
        columns.map(({ of, digits }) => of(round).toFixed(digits)),
      ),

    /** Medians of each side's rounds, and ours against the others. */
    summary(rounds: R[]): string[] {
      const sides = [...new Set(rounds.map(({ side }) => side))];
      const lines = sides.map((side) =>
        line(
          `${side}, median`,
          medians(rounds, side).map((value, i) => value.toFixed(columns[i]?.digits)),
        ),
      );
      if (!sides.includes("us")) return lines;
      const us = medians(rounds, "us");
      for (const other of sides.filter((side) => side !== "us")) {
        const theirs = medians(rounds, other);
        const ratios = us.map((value, i) => value / (theirs[i] as number));
        lines.push(
          line(
            `us / ${other}`,
            ratios.map((ratio) => (Number.isFinite(ratio) ? ratio.toFixed(2) : "-")),
          ),
        );
      }
      return lines;
    },
  };
}

export type Table = ReturnType<typeof table<Round>>;

export function medianOf<R extends { side: Side }>(rounds: R[], side: Side, of: Column<R>["of"]): number {
  return median(rounds.filter((round) => round.side === side).map(of));
}

/** One line that holds a figure against the most that it should be. */
export function verdict(what: string, value: number, most: number, unit = ""): string {
  const figure = `${value.toFixed(2)}${unit}`;
  return `${value <= most ? "met   " : "MISSED"}  ${what}: ${figure}, to be at most ${most}${unit}`;
}
