import { spawn } from "node:child_process";
import { once } from "node:events";
import { fileURLToPath } from "node:url";
import { compareSequence } from "@agentwire/shared";
import { expect } from "chai";
import type { Page } from "playwright-core";
import { openChromium } from "../harness/chromium.js";
import { type Cluster, startCluster } from "../harness/cluster.js";
import { startLoad } from "../harness/load.js";
import { needs } from "../harness/needs.js";
import { onTeardown } from "../harness/teardown.js";
import { token } from "../harness/token.js";
import { until } from "../harness/wait.js";

const AGENTWIRE = fileURLToPath(new URL("../../emitter/bin/agentwire.js", import.meta.url));

/** A real browser with a fresh profile, showing this address. */
async function open(url: string) {
  const browser = await openChromium();
  const page = await browser.newPage();
  const asked: URL[] = [];
  const errors: Error[] = [];
  page.on("request", (request) => asked.push(new URL(request.url())));
  page.on("websocket", (socket) => asked.push(new URL(socket.url())));
  page.on("pageerror", (error) => errors.push(error));
  await page.goto(url);
  return { page, asked, errors };
}

/** Waits until an element has this text. */
async function reads(page: Page, selector: string, text: string | RegExp): Promise<string> {
  const found = async () => (await page.textContent(selector)) ?? "";
  const fits = (shown: string) => (typeof text === "string" ? shown === text : text.test(shown));
  try {
    return await until(`${selector} reads ${text}`, async () => {
      const shown = await found();
      return fits(shown) && shown;
    });
  } catch (error) {
    throw new Error(`${(error as Error).message}, but ${await found()}`);
  }
}

/** The statuses on the page, by agent. */
const shownAgents = (page: Page): Promise<Record<string, string>> =>
  page.$$eval("#agents tr", (rows) =>
    Object.fromEntries(
      rows.map(({ dataset }) => [dataset.agentId, `${dataset.status} ${dataset.sequenceId}`]),
    ),
  );

const hostsOf = (asked: URL[]): string[] =>
  [...new Set(asked.filter(({ protocol }) => protocol !== "data:").map(({ host }) => host))].sort();

/** A command that works until `end()` is called, run by `agentwire run`. */
function work(cluster: Cluster, agent: string) {
  const args = ["run", "--agent", agent, "--project", "p1", "--task", "t1", "--redis", cluster.redis.url];
  const child = spawn(process.execPath, [AGENTWIRE, ...args, "--", "cat"], {
    stdio: ["pipe", "ignore", "inherit"],
  });
  const exited = once(child, "exit");
  onTeardown(async () => {
    child.kill("SIGKILL");
    await exited;
  });
  return {
    async end(): Promise<void> {
      child.stdin.end();
      const [code] = await exited;
      if (code !== 0) throw new Error(`agentwire run ended with ${code}`);
    },
  };
}

describe("the demo page", () => {
  needs("CHROMIUM");
  needs("REDIS");

  /** The address that npm start would print. */
  const addressOf = ({ nodes }: Cluster, viewerToken: string): string =>
    `${nodes[0]?.url}/#token=${viewerToken}&nodes=${nodes.map(({ url }) => url).join(",")}`;

  it("[D7][D3] shows what commands do, goes to another node after kill -9, and misses nothing", async () => {
    const cluster = await startCluster({ nodes: 2, settings: { CORS_ORIGINS: "*" } });
    const { page, asked, errors } = await open(addressOf(cluster, token("user-1", ["p1"])));
    await reads(page, "#node", "node-1");
    await reads(page, "#state", "live");
    expect(await page.isVisible("#nobody")).to.equal(true);

    const builder = work(cluster, "builder");
    await reads(page, 'tr[data-agent-id="builder"] .status', "working");
    await reads(page, 'tr[data-agent-id="builder"] [data-label="Task"]', "t1");
    await builder.end();
    await reads(page, 'tr[data-agent-id="builder"] .status', "completed");
    expect(await page.isVisible("#nobody")).to.equal(false);
    await reads(page, "#received", "2");
    await reads(page, "#replay", "none was needed so far");

    const linter = work(cluster, "linter");
    const load = startLoad(cluster.worker(), { perSecond: 100 });
    await reads(page, "#received", /^[1-9][\d,]{2,}$/);
    await cluster.node(1).kill();
    await linter.end();
    await reads(page, "#node", "node-2");
    await reads(page, "#replay", /^caught up: \d+ missed events? came after all$/);
    await reads(page, "#state", "live");
    const back = load.published.length;
    await until("events flow on", () => load.published.length > back + 50);

    const published = await load.stop();
    const expected: Record<string, string> = {};
    for (const { agent_id, new_status, sequence_id } of published.sort((a, b) =>
      compareSequence(a.sequence_id, b.sequence_id),
    )) {
      expected[agent_id] = `${new_status} ${sequence_id}`;
    }
    // Each once: those of the load, and "working" and "completed" of the two commands.
    await reads(page, "#received", (published.length + 4).toLocaleString("en"));
    const { builder: built, linter: linted, ...others } = await shownAgents(page);
    expect(others).to.deep.equal(expected);
    expect([built, linted].map((shown) => shown?.split(" ")[0])).to.deep.equal(["completed", "completed"]);
    expect(await page.getAttribute("#replay", "data-replay")).to.equal("complete");

    expect(hostsOf(asked)).to.deep.equal(cluster.nodes.map(({ url }) => new URL(url).host).sort());
    expect(errors).to.deep.equal([]);
  });

  it("[D28] shows how far a task is, moving and never back, and goes on after kill -9", async () => {
    const cluster = await startCluster({ nodes: 2, settings: { CORS_ORIGINS: "*" } });
    const { page, errors } = await open(addressOf(cluster, token("user-1", ["p1"])));
    await reads(page, "#state", "live");
    const task = cluster.worker().task({ task_id: "t1", agent_id: "a1", project_id: "p1" });
    const bar = '#tasks li[data-task-id="t1"] progress';
    const shown = () => page.$eval(bar, (element) => (element as HTMLProgressElement).value);
    const reaches = (percent: number) =>
      until(`the bar stands at ${percent}`, async () => (await shown()) === percent);

    task.progress({ current_step: 1, total_steps: 20, message: "the first" });
    await reads(page, "#running", "1 running");
    await reaches(5);
    const seen: number[] = [];
    for (let step = 2; step <= 10; step++) {
      task.progress({ current_step: step, total_steps: 20 });
      await until("it moves", async () => {
        seen.push(await shown());
        return (seen.at(-1) as number) > (step - 1) * 5;
      });
    }
    await reaches(50);
    expect(seen).to.deep.equal([...seen].sort((a, b) => a - b));
    expect(Math.max(...seen)).to.be.at.most(50);

    await cluster.node(1).kill();
    await reads(page, "#node", "node-2");
    expect(await shown()).to.equal(50);
    task.progress({ current_step: 20, total_steps: 20, message: "the last" });
    await reaches(100);
    expect(errors).to.deep.equal([]);
  });

  it("[D12] says why a node refuses, and does not ask again", async () => {
    const cluster = await startCluster({ nodes: 2, settings: { CORS_ORIGINS: "*" } });
    const foreign = token("user-1", ["p1"], { secret: "another-secret-0123456789abcdef0123" });
    const { page, asked, errors } = await open(addressOf(cluster, foreign));
    await reads(page, "#state", "closed: a valid token is required");
    expect(asked.filter(({ pathname }) => pathname === "/socket.io/").length).to.equal(2);
    expect(errors).to.deep.equal([]);
  });

  it("[D12] without a token it says what to do, and asks no node for a connection", async () => {
    const cluster = await startCluster({ nodes: 1 });
    const { page, asked, errors } = await open(cluster.node(1).url);
    await reads(page, "#state", "not connected: there is no token");
    await reads(
      page,
      "#notice",
      "This address has no token. Run npm start: it prints the address to open, with a token for this page at its end.",
    );
    expect(await page.isVisible("#notice")).to.equal(true);
    expect(asked.filter(({ pathname }) => pathname === "/socket.io/")).to.deep.equal([]);
    expect(hostsOf(asked)).to.deep.equal([new URL(cluster.node(1).url).host]);
    expect(errors).to.deep.equal([]);
  });
});
