import { expect } from "chai";
import type { Page } from "playwright-core";
import { openChromium } from "../harness/chromium.js";
import { type Cluster, startCluster } from "../harness/cluster.js";
import { needs } from "../harness/needs.js";
import { OPERATOR } from "../harness/operator.js";
import { token } from "../harness/token.js";
import { until } from "../harness/wait.js";

/** A real browser with a fresh profile, and all that it asked for, said and heard. */
async function open(url: string) {
  const browser = await openChromium();
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
  return { page, asked, heard, errors };
}

async function logIn(page: Page, password: string): Promise<void> {
  await page.fill("form input >> nth=1", OPERATOR.ADMIN_USERNAME);
  await page.fill("form input[type=password]", password);
  await page.click('form button[type="submit"]');
}

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
      const own = tokens[n - 1] ?? "";
      // As proxies and apps pass it on, beside the ways that the door knows.
      const query = { token: own, access_token: own };
      const Cookie = `sb-access-token=${own}`;
      const extraHeaders = { Cookie, Authorization: `Bearer ${own}`, "X-Forwarded-Access-Token": own };
      const socket = { transports: ["websocket"], extraHeaders };
      return (await cluster.viewer({ on: n, query, socket })).joined();
    }),
  );
  return { cluster, tokens, ids: viewers.map(({ socket }) => socket.id ?? "") };
}

describe("the admin UI", () => {
  needs("CHROMIUM");
  needs("REDIS");

  it("[D27] shows the servers and the sockets of all nodes, no token, and asks no other host", async () => {
    const { cluster, ids, tokens } = await watched();
    const { adminUrl } = cluster.node(1);
    const { page, asked, heard, errors } = await open(`${adminUrl}/admin`);
    await page.waitForSelector("form");
    expect(await page.inputValue("form input[required]")).to.equal(adminUrl);
    await logIn(page, OPERATOR.ADMIN_PASSWORD);

    const dashboard = () => page.innerText(".v-main");
    // Clients by transport, servers by health, sockets by namespace.
    await until("the sums are shown", async () =>
      /WebSocket\s*6\s.*Healthy\s*3\s.*\/ws\/agents\s*6\s/is.test(await dashboard()),
    );
    const seen = [await page.content()];
    await page.click('a[href="#/servers"]');
    await until("each server is shown, healthy, with its clients", async () => {
      const shown = (await rows(page)).map(([id, , , , clients, , health]) => `${id} ${clients} ${health}`);
      return shown.join() === "node-1 1 Healthy,node-2 2 Healthy,node-3 3 Healthy";
    });
    seen.push(await page.content());
    await page.click('a[href="#/sockets"]');
    await until("each socket is shown", async () => {
      const shown = (await rows(page)).map(([id]) => id);
      return shown.length === 6 && ids.every((id) => shown.includes(id));
    });
    seen.push(await page.content());
    await page.click(`.v-data-table tbody tr:has-text("${ids[5]}")`);
    await until("its node and its user are shown", async () => /node-3.*user-3/s.test(await dashboard()));
    seen.push(await page.content());

    // The session is enough for the next visit.
    await page.goto(`${adminUrl}/admin/`);
    await until("the sums are shown again", async () => /Healthy\s*3\s/i.test(await dashboard()));
    expect(await page.isVisible("form")).to.equal(false);

    expect(hosts(asked)).to.deep.equal([new URL(adminUrl).host]);
    expect(errors).to.deep.equal([]);
    expect(heard.join()).to.contain("server_stats").and.contain(ids[5]);
    for (const secret of tokens.flatMap((one) => [one, one.split(".")[2] ?? one]))
      expect([...seen, ...heard].filter((text) => text.includes(secret))).to.deep.equal([]);
    expect(heard.join()).not.to.match(/cookie|authorization|sb-access/i);
  });

  it("[D27] shows nothing without a password or with a wrong one", async () => {
    const { cluster, ids } = await watched();
    const { page, heard, asked, errors } = await open(`${cluster.node(2).adminUrl}/admin`);
    await page.waitForSelector("form");
    for (const password of ["", "wrong"]) {
      const before = heard.length;
      await logIn(page, password);
      await until("it is refused", () => heard.slice(before).join().includes("invalid credentials"));
      await page.waitForSelector("form :text('Invalid credentials')");
    }
    await page.goto(`${cluster.node(2).adminUrl}/admin/#/sockets`);
    await page.waitForSelector("form");
    expect(heard.join()).not.to.match(/server_stats|all_sockets|config/);
    for (const id of ids) expect(await page.content()).not.to.contain(id);
    expect(hosts(asked)).to.deep.equal([new URL(cluster.node(2).adminUrl).host]);
    expect(errors).to.deep.equal([]);
    for (const { alive, stderr } of cluster.nodes) expect([alive, stderr]).to.deep.equal([true, ""]);
  });
});
