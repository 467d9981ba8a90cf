// Opens a large installation: `node test/large.mjs PLAN` prints when the first page shows what, and rows and
// milliseconds of each list.
//
// PLAN: { executable, url, key, paths: {name: "#/…"} }. Times are the page's own: of the first page since the
// navigation began, in a new browser and again; of a list from the change of the address to its rows.
import { opened, settled } from "./browser.mjs";

const FIRST = { heading: "main h1", numbers: ".tiles a[href='#/jobs?status=pending'] strong", charts: "figure canvas" };
const plan = JSON.parse(process.argv[2]);
const { browser, page, seen } = await opened({ ...plan, viewport: { width: 1440, height: 900 } });
await page.addInitScript((first) => {
  globalThis.__first = {};
  new MutationObserver(() => {
    for (const [name, selector] of Object.entries(first)) {
      if (!(name in globalThis.__first) && document.querySelector(selector)) {
        globalThis.__first[name] = Math.round(performance.now());
      }
    }
  }).observe(document, { childList: true, subtree: true });
}, FIRST);
const report = { first: [], pages: {}, seen };
for (let time = 0; time < 5; time += 1) {
  await (time === 0 ? page.goto(plan.url) : page.reload());
  await page.waitForSelector(FIRST.charts);
  await settled(page);
  report.first.push(await page.evaluate(() => globalThis.__first));
}
for (const [name, path] of Object.entries(plan.paths)) {
  const each = [];
  for (let time = 0; time < 5; time += 1) {
    await page.evaluate(() => (location.hash = "#/settings"));
    await page.getByRole("heading", { name: "Settings" }).waitFor();
    await settled(page);
    each.push(
      await page.evaluate(async (hash) => {
        const start = performance.now();
        location.hash = hash;
        await new Promise((resolve) => {
          const look = () => (document.querySelector("main tbody tr:nth-child(50)") && document.querySelector("main nav a") ? resolve() : requestAnimationFrame(look));
          requestAnimationFrame(look);
        });
        return Math.round(performance.now() - start);
      }, path),
    );
  }
  report.pages[name] = { ms: each.sort((a, b) => a - b)[2], rows: await page.locator("main tbody tr").count() };
}
await browser.close();
console.log(JSON.stringify(report));
process.exit(0);
