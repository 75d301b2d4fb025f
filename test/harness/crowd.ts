import type { SequenceId } from "@agentwire/shared";
import { Child } from "../../bench/child.js";
import type { MemberOptions } from "./crowd-member.js";
import type { CrowdAsk, CrowdResult, Standing } from "./crowd-process.js";
import { onTeardown } from "./teardown.js";

/** Thousands of viewers, in processes of their own: they are not to hold up the test that watches them. */
export async function openCrowd(members: MemberOptions[], processes: number) {
  const children = Array.from({ length: processes }, () => {
    const child = new Child<CrowdAsk, unknown>(new URL("crowd-process.ts", import.meta.url));
    onTeardown(() => child.end());
    return child;
  });
  const askAll = <A>(question: CrowdAsk) =>
    Promise.all(children.map((child) => child.ask(question))) as Promise<A[]>;
  await Promise.all(
    children.map((child, c) =>
      child.ask({ ask: "join", members: members.filter((_, n) => n % processes === c) }),
    ),
  );
  const sum = <A>(answers: A[], of: (answer: A) => number) =>
    answers.reduce((total, answer) => total + of(answer), 0);
  const together = (answers: Standing[]): Standing => ({
    joined: sum(answers, ({ joined }) => joined),
    connects: answers.flatMap(({ connects }) => connects),
    lastComplete: Math.max(...answers.map(({ lastComplete }) => lastComplete)),
  });

  return {
    standing: async () => together(await askAll<Standing>({ ask: "standing" })),
    /** By project, what was published: waits until everybody has it, but not for ever. */
    async result(published: Map<string, SequenceId[]>, patienceMs: number): Promise<CrowdResult> {
      const answers = await askAll<CrowdResult>({ ask: "result", published, patienceMs });
      const refusals: Record<string, number> = {};
      for (const answer of answers)
        for (const [why, count] of Object.entries(answer.refusals))
          refusals[why] = (refusals[why] ?? 0) + count;
      return {
        ...together(answers),
        recovered: sum(answers, ({ recovered }) => recovered),
        incomplete: sum(answers, ({ incomplete }) => incomplete),
        missing: sum(answers, ({ missing }) => missing),
        doubled: sum(answers, ({ doubled }) => doubled),
        foreign: sum(answers, ({ foreign }) => foreign),
        losses: answers.flatMap(({ losses }) => losses),
        refusals,
      };
    },
  };
}
