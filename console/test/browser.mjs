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

// What a person operates or must recognize without seeing it.
const NAMED = new Set([
  ...["button", "link", "textbox", "searchbox", "combobox", "checkbox", "listbox", "slider", "tab", "menuitem", "option"],
  ...["heading", "image", "img", "figure", "table", "dialog", "alertdialog", "navigation", "region", "form", "progressbar"],
]);

/** What a screen reader reads out without a name: roles, from the browser's accessibility tree. */
export async function unnamed(page) {
  const session = await page.context().newCDPSession(page);
  const { nodes } = await session.send("Accessibility.getFullAXTree");
  await session.detach();
  const shown = nodes.filter((node) => !node.ignored);
  const roles = shown.map((node) => node.role?.value);
  const wrong = shown.filter((node) => NAMED.has(node.role?.value) && !node.name?.value?.trim()).map((node) => node.role.value);
  if (roles.filter((role) => role === "main").length !== 1) {
    wrong.push("not one main");
  }
  // Data tables without their column names are numbers without meaning.
  const columns = roles.filter((role) => role === "columnheader").length;
  return roles.includes("table") && columns === 0 ? [...wrong, "columnheader"] : wrong;
}

/** What the Tab key reaches without a visible focus: up to so many stops, the skip link first. */
export async function unseenFocus(page, stops = 12) {
  await page.evaluate(() => {
    document.activeElement?.blur();
    window.getSelection()?.collapse(document.body, 0);
  });
  const found = [];
  for (let stop = 0; stop < stops; stop += 1) {
    await page.keyboard.press("Tab");
    const wrong = await page.evaluate(() => {
      const at = document.activeElement;
      if (!at || at === document.body) {
        return null;
      }
      const { outlineStyle, outlineWidth } = getComputedStyle(at);
      return outlineStyle === "none" || outlineWidth === "0px" ? at.outerHTML.slice(0, 100) : null;
    });
    if (wrong) {
      found.push(wrong);
    }
  }
  return found;
}

/** Times without their instant in UTC for the pointer, and what still moves. */
export async function wrongTimes(page) {
  return page.evaluate(() =>
    [...document.querySelectorAll("time")].filter((time) => !/^\d{4}-\d\d-\d\d \d\d:\d\d:\d\d UTC$/.test(time.title)).map((time) => time.outerHTML),
  );
}

export async function moving(page) {
  return page.evaluate(() => document.getAnimations().map((animation) => animation.constructor.name));
}

/** Whether the page is wider than the window. */
export async function overflow(page) {
  return page.evaluate(() => document.documentElement.scrollWidth - document.documentElement.clientWidth);
}
