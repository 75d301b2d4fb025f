import type { SequenceId } from "@agentwire/shared";
import { answerQuestions } from "../../bench/child.js";
import { Member, type MemberOptions } from "./crowd-member.js";
import { until } from "./wait.js";

export type CrowdAsk =
  | { ask: "join"; members: MemberOptions[] }
  | { ask: "standing" }
  | { ask: "result"; published: Map<string, SequenceId[]>; patienceMs: number };

/** How many of them are in, for which time, and when the last one of those was complete (`Date.now()`). */
export interface Standing {
  joined: number;
  connects: number[];
  lastComplete: number;
}

export interface CrowdResult extends Standing {
  recovered: number;
  /** Members, and events that they lack. */
  incomplete: number;
  missing: number;
  doubled: number;
  /** Of projects that were not theirs, or that were never published. */
  foreign: number;
  losses: string[];
  refusals: Record<string, number>;
}

const AT_ONCE = 50;
const members: Member[] = [];
const projects: string[] = [];

const sum = (of: (member: Member) => number | boolean): number =>
  members.reduce((total, member) => total + Number(of(member)), 0);

const standing = (): Standing => ({
  joined: sum(({ joined }) => joined),
  connects: members.map(({ connects }) => connects),
  lastComplete: Math.max(...members.map(({ completeAt }) => completeAt)),
});

const missing = (member: Member, due: SequenceId[]): number =>
  due.reduce((count, id) => count + Number(!member.seen.has(id)), 0);

answerQuestions<CrowdAsk>(async (question) => {
  switch (question.ask) {
    case "join":
      for (let start = 0; start < question.members.length; start += AT_ONCE) {
        const next = question.members.slice(start, start + AT_ONCE);
        const some = next.map((options) => new Member(options));
        members.push(...some);
        projects.push(...next.map(({ project }) => project));
        await until("they are in", () => some.every(({ joined }) => joined));
      }
      return true;
    case "standing":
      return standing();
    case "result": {
      const due = (n: number) => question.published.get(projects[n] as string) ?? [];
      const all = () => members.every((member, n) => missing(member, due(n)) === 0);
      await until("they have everything", all, question.patienceMs).catch(() => {});
      const lacks = members.map((member, n) => missing(member, due(n)));
      const refusals: Record<string, number> = {};
      for (const member of members)
        for (const [why, count] of Object.entries(member.refusals))
          refusals[why] = (refusals[why] ?? 0) + count;
      return {
        ...standing(),
        recovered: sum(({ recovered }) => recovered),
        incomplete: lacks.filter((count) => count > 0).length,
        missing: lacks.reduce((total, count) => total + count, 0),
        doubled: sum(({ doubled }) => doubled),
        foreign: members.reduce(
          (total, { seen }, n) => total + seen.size - due(n).length + (lacks[n] ?? 0),
          0,
        ),
        losses: members.flatMap(({ losses }) => losses),
        refusals,
      } satisfies CrowdResult;
    }
  }
});
