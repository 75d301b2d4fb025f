/** One metric of a scrape. */
export interface Family {
  name: string;
  type: string;
  help: string;
  samples: { name: string; labels: Record<string, string>; value: number }[];
}

const NAME = "[a-zA-Z_:][a-zA-Z0-9_:]*";
const COMMENT = new RegExp(`^# (HELP|TYPE) (${NAME}) (.+)$`);
// "Nan" is how prom-client spells it; Prometheus takes any case.
const SAMPLE = new RegExp(`^(${NAME})(?:\\{(.*)\\})? (-?\\d[\\d.e+-]*|[+-]Inf|NaN|Nan)$`);
const LABEL = /^([a-zA-Z_][a-zA-Z0-9_]*)="((?:[^"\\\n]|\\["\\n])*)"(,|$)/;
const TYPES = ["counter", "gauge", "histogram", "summary", "untyped"];

/** What may stand behind a family's name in the name of a sample. */
const SUFFIXES: Record<string, string[]> = {
  histogram: ["_bucket", "_sum", "_count"],
  summary: ["", "_sum", "_count"],
};

function labelsOf(text: string): Record<string, string> {
  const labels: Record<string, string> = {};
  for (let rest = text; rest !== ""; ) {
    const [all, name, value] = LABEL.exec(rest) ?? [];
    if (all === undefined || name === undefined || value === undefined)
      throw new Error(`bad labels: ${text}`);
    if (name in labels) throw new Error(`label ${name} twice: ${text}`);
    labels[name] = value;
    rest = rest.slice(all.length);
  }
  return labels;
}

/**
 * Parses Prometheus' text format 0.0.4, strictly: HELP, then TYPE, then the samples of that family, each with other labels.
 * @throws Error with the line that is wrong
 */
export function parseExposition(text: string): Map<string, Family> {
  if (!text.endsWith("\n")) throw new Error("it does not end with a line break");
  const families = new Map<string, Family>();
  const seen = new Set<string>();
  let family: Family | undefined;
  for (const line of text.split("\n")) {
    if (line === "") continue;
    const [, kind, name = "", rest = ""] = COMMENT.exec(line) ?? [];
    if (kind === "HELP") {
      if (families.has(name)) throw new Error(`twice: ${line}`);
      family = { name, type: "", help: rest, samples: [] };
      families.set(name, family);
    } else if (kind === "TYPE") {
      if (family?.name !== name || family.type !== "" || !TYPES.includes(rest))
        throw new Error(`bad TYPE: ${line}`);
      family.type = rest;
    } else {
      const [, sample = "", labels = "", value = ""] = SAMPLE.exec(line) ?? [];
      const allowed = (SUFFIXES[family?.type ?? ""] ?? [""]).map((suffix) => `${family?.name}${suffix}`);
      if (!family?.type || !allowed.includes(sample)) throw new Error(`no sample of its family: ${line}`);
      const number = Number(value.replace("Inf", "Infinity"));
      if (Number.isNaN(number) && value.toLowerCase() !== "nan") throw new Error(`no number: ${line}`);
      const parsed = labelsOf(labels);
      const key = JSON.stringify([sample, Object.entries(parsed).sort()]);
      if (seen.has(key)) throw new Error(`the same sample twice: ${line}`);
      seen.add(key);
      family.samples.push({ name: sample, labels: parsed, value: number });
    }
  }
  return families;
}
