import { type Browser, chromium } from "playwright-core";
import { onTeardown } from "./teardown.js";

/** Without these it looks for hosts of its maker, at each start. */
const FLAGS = [
  "--no-sandbox",
  "--disable-gpu",
  "--disable-quic",
  "--no-first-run",
  "--disable-background-networking",
  "--disable-component-update",
  "--disable-sync",
];

/** A real browser with a fresh profile. It is closed after the test. */
export async function openChromium(): Promise<Browser> {
  const executablePath = process.env.AGENTWIRE_CHROMIUM ?? "/usr/bin/chromium";
  const browser = await chromium.launch({ executablePath, args: FLAGS });
  onTeardown(() => browser.close());
  return browser;
}
