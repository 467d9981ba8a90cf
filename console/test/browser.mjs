// What the browser tests share: a Chromium that reports everything it should not see.
import { readFileSync } from "node:fs";
import { createRequire } from "node:module";
import { chromium } from "playwright-core";

const axe = readFileSync(createRequire(import.meta.url).resolve("axe-core/axe.min.js"), "utf8");
const FLAGS = [
  "--headless",
  "--no-sandbox",
  "--disable-gpu",
  "--disable-quic",
  "--no-first-run",
  "--disable-background-networking",
  "--disable-component-update",
  "--disable-sync",
];

/** The page of a new browser context, and `seen`: errors, and requests to other hosts. */
export async function opened({ executable, url, key, ...options }) {
  const browser = await chromium.launch({ executablePath: executable, args: FLAGS });
  const context = await browser.newContext({ locale: "en-GB", timezoneId: "Europe/Lisbon", ...options });
  const page = await context.newPage();
  page.setDefaultTimeout(60_000);
  const origin = new URL(url).origin;
  const seen = { errors: [], hosts: [], dialogs: [], keys: [] };
  page.on("console", (message) => {
    if (["error", "warning"].includes(message.type())) {
      seen.errors.push(message.text());
    }
  });
  page.on("pageerror", (error) => seen.errors.push(String(error)));
  page.on("dialog", async (dialog) => {
    seen.dialogs.push(dialog.message());
    await dialog.dismiss();
  });
  page.on("request", (request) => {
    const { protocol, origin: at } = new URL(request.url());
    if (protocol.startsWith("http") && at !== origin) {
      seen.hosts.push(request.url());
    }
    if (key && request.url().includes(key)) {
      seen.keys.push(request.url());
    }
  });
  if (key) {
    await page.addInitScript(([name, value]) => sessionStorage.setItem(name, value), ["luma-memory-key", key]);
  }
  return { browser, page, seen };
}

/** Opens a page of the console, once everything on it has been read. */
export async function go(page, url, path) {
  if (page.url().startsWith(url)) {
    await page.evaluate((hash) => (location.hash = hash), path);
  } else {
    await page.goto(`${url}${path}`);
  }
  await settled(page);
}

export async function settled(page) {
  await page.waitForSelector("main h1, form h1");
  await page.waitForFunction(() => !document.querySelector("main [aria-busy='true']") && !document.querySelector("main > p.soft"));
  await page.waitForTimeout(250); // charts and the graph are drawn in the next frames
}

/** Violations of accessibility rules: rule and elements. */
export async function violations(page) {
  // By the protocol, not as a script element, which the content security policy refuses.
  await page.evaluate(axe);
  const found = await page.evaluate(() =>
    globalThis.axe.run(document, { runOnly: ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice"] }),
  );
  return found.violations.map(({ id, nodes }) => `${id}: ${nodes.map((node) => node.target.join(" ")).join(", ")}`);
}

/** Whether the page is wider than the window. */
export async function overflow(page) {
  return page.evaluate(() => document.documentElement.scrollWidth - document.documentElement.clientWidth);
}
